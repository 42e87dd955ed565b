"""Memory tools measured against each other: on loops (``make bench``) and on the service (``make guide``)."""
