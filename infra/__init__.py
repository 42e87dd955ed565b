"""What Pulumi declares: the image, the namespace and its parts, or the same as plain containers."""
