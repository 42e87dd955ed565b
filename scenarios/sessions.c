/* SPDX-License-Identifier: MIT */
/* Keeps the sessions of the last 3,000 users who signed in: a newer one takes the place of the oldest. */
#include "service.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_PER_SECOND 20
#define USERS_PER_ROUND 20
#define SESSIONS 3000
#define CART_BYTES 8000

struct session {
	uint64_t user;
	char cart[CART_BYTES];
};

static struct session *sessions[SESSIONS];

KEEP_FRAME static struct session *session_open(uint64_t user)
{
	struct session *session = malloc(sizeof(*session));

	if (!session)
		service_out_of_memory();
	ledger_taken(sizeof(*session));
	session->user = user;
	memset(session->cart, 'c', sizeof(session->cart));
	KEEP_CALL();
	return session;
}

static void session_close(struct session *session)
{
	ledger_freed(sizeof(*session));
	free(session);
}

KEEP_FRAME static void user_sign_in(uint64_t user)
{
	struct session **place = &sessions[user % SESSIONS];

	if (*place)
		session_close(*place);
	*place = session_open(user);
	KEEP_CALL();
}

int main(int argc, char **argv)
{
	service_open(argc, argv);
	for (uint64_t users = 0;;) {
		service_wait(ROUNDS_PER_SECOND);
		for (int i = 0; i < USERS_PER_ROUND; i++)
			user_sign_in(users++);
		const size_t open = users < SESSIONS ? users : SESSIONS;
		service_done(open * sizeof(struct session), open, open == SESSIONS);
	}
}
