/* operator new of libstdc++, which keeps no frame pointer, from constructors, containers and lambdas. */
#include "program.h"

#include <functional>
#include <vector>

#define AFTER __asm__ volatile("" ::: "memory")

struct Node {
	char payload[200];
	SITE Node();
};

Node::Node()
{
	keep(payload);
}

SITE void takes_a_node(void)
{
	keep(new Node);
}

SITE void grows_a_vector(void)
{
	static std::vector<long> *numbers = new std::vector<long>;

	numbers->reserve(numbers->capacity() + 1000);
	AFTER;
}

SITE void calls_a_lambda(const std::function<void()> &call)
{
	call();
	AFTER;
}

extern "C" SITE void lambda_body(void)
{
	keep(new char[333]);
}

int main()
{
	stop("ready");
	for (int i = 0; i < 3; i++) {
		takes_a_node();
		grows_a_vector();
		calls_a_lambda([] { lambda_body(); });
	}
	stop("done");
	return 0;
}
