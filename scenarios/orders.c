/* SPDX-License-Identifier: MIT */
/* Accepts orders: each is parsed, checked, passed on and freed. One in eight is not valid. */
#include "service.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_PER_SECOND 20
#define ORDERS_PER_ROUND 40
#define NOTE_BYTES 2000
#define MOST_ITEMS 7

struct order {
	uint64_t number;
	unsigned items;
	char note[NOTE_BYTES];
};

static uint64_t accepted, refused;

KEEP_FRAME static struct order *order_parse(uint64_t number)
{
	struct order *order = malloc(sizeof(*order));

	if (!order)
		service_out_of_memory();
	ledger_taken(sizeof(*order));
	order->number = number;
	order->items = (unsigned)(number % 8) + 1;
	memset(order->note, 'n', sizeof(order->note));
	KEEP_CALL();
	return order;
}

static void order_free(struct order *order)
{
	ledger_freed(sizeof(*order));
	free(order);
}

static int order_is_valid(const struct order *order)
{
	return order->items <= MOST_ITEMS;
}

static void order_dispatch(const struct order *order)
{
	accepted += order->items;
}

KEEP_FRAME static int order_accept(uint64_t number)
{
	struct order *order = order_parse(number);

	if (!order_is_valid(order)) {
		refused++;
		return -1;
	}
	order_dispatch(order);
	order_free(order);
	return 0;
}

int main(int argc, char **argv)
{
	service_open(argc, argv);
	for (uint64_t number = 0;;) {
		service_wait(ROUNDS_PER_SECOND);
		for (int i = 0; i < ORDERS_PER_ROUND; i++)
			order_accept(number++);
		service_done(0, 0, 1);
	}
}
