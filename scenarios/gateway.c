/* SPDX-License-Identifier: MIT */
/*
 * A gateway, of which there are ten. Clients connect, ask, and say goodbye. Some clients hang up without goodbye; only
 * one of the gateways is reached by such.
 */
#include "service.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_PER_SECOND 20
#define CLIENTS_PER_ROUND 8
#define BUFFER_BYTES 8000

enum ending { GOODBYE, HUNG_UP };

struct client {
	uint64_t number;
	char buffer[BUFFER_BYTES];
};

static uint64_t served, hung_up;

KEEP_FRAME static struct client *client_open(uint64_t number)
{
	struct client *client = malloc(sizeof(*client));

	if (!client)
		service_out_of_memory();
	ledger_taken(sizeof(*client));
	client->number = number;
	memset(client->buffer, 'b', sizeof(client->buffer));
	KEEP_CALL();
	return client;
}

static void client_close(struct client *client)
{
	ledger_freed(sizeof(*client));
	free(client);
}

static enum ending client_talk(const struct client *client)
{
	return service_has_rude_client() && client->number % 4 == 0 ? HUNG_UP : GOODBYE;
}

KEEP_FRAME static void gateway_accept(uint64_t number)
{
	struct client *client = client_open(number);

	switch (client_talk(client)) {
	case GOODBYE:
		served++;
		client_close(client);
		break;
	case HUNG_UP:
		hung_up++;
		break;
	}
	KEEP_CALL();
}

int main(int argc, char **argv)
{
	service_open(argc, argv);
	for (uint64_t number = 0;;) {
		service_wait(ROUNDS_PER_SECOND);
		for (int i = 0; i < CLIENTS_PER_ROUND; i++)
			gateway_accept(number++);
		service_done(0, 0, 1);
	}
}
