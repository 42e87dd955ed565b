/* SPDX-License-Identifier: MIT */
/*
 * C++ as most of it is built and linked: no frame pointers, and memory by the operators of a packaged libstdc++.
 *
 * Prints "ready" and waits for a line. Then it fills maps and drops them, keeps KEPT nodes, prints its processor time in
 * seconds and the bytes that it keeps, and waits for another line.
 */
#include <cstdio>
#include <ctime>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr int rounds = 4000, kept = 1000;

struct Node {
	Node *next;
	char text[2040];
};

Node *nodes;

[[gnu::noinline]] std::size_t work(int round)
{
	std::map<std::string, std::vector<int>> map;

	for (int i = 0; i < 20; i++)
		map["a key that is too long to lie in the string " + std::to_string(round + i)].push_back(i);
	return map.size();
}

} // namespace

__attribute__((noinline)) void keep_node()
{
	nodes = new Node{nodes, {}};
}

int main()
{
	std::size_t total = 0;
	timespec now;

	std::puts("ready");
	std::fflush(stdout);
	std::getchar();
	for (int i = 0; i < rounds; i++) {
		total += work(i);
		if (i % (rounds / kept) == 0)
			keep_node();
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	std::printf("%f %zu\n", (double)now.tv_sec + (double)now.tv_nsec / 1e9, kept * sizeof(Node));
	std::fflush(stdout);
	std::getchar();
	return total == 0;
}
