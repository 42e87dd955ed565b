#include <stddef.h>

void keeps(size_t size);
void calls_go(void);
