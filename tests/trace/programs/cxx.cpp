// operator new and delete: of libstdc++, which calls malloc and aligned_alloc, or of an allocator in its place. One that is
// built from C ends the process where there is no memory: "never fails" leaves that out. Each call has a caller of its own.
#include <new>

extern "C" {
#include "program.h"
}

struct Plain {
	char bytes[72];
};

struct alignas(128) Aligned {
	char bytes[256];
};

// Not `delete new`: a compiler may leave out such a pair.
SITE Plain *new_kept() { return static_cast<Plain *>(keep(new Plain)); }
SITE Plain *new_deleted() { return static_cast<Plain *>(keep(new Plain)); }
SITE char *new_array_kept() { return static_cast<char *>(keep(new char[501])); }
SITE char *new_array_deleted() { return static_cast<char *>(keep(new char[77])); }
SITE Aligned *new_aligned_kept() { return static_cast<Aligned *>(keep(new Aligned)); }
SITE Aligned *new_aligned_deleted() { return static_cast<Aligned *>(keep(new Aligned)); }
SITE Plain *new_nothrow_kept() { return static_cast<Plain *>(keep(new (std::nothrow) Plain)); }

SITE void *new_fails()
{
	try {
		keep(::operator new(too_large));
	} catch (const std::bad_alloc &) {
		return nullptr;
	}
	MUST(!"an object of that size");
	return nullptr;
}

int main(int argc, char **argv)
{
	stop("ready");
	for (int i = 0; i < 3; i++) {
		new_kept();
		delete new_deleted();
		new_array_kept();
		delete[] new_array_deleted();
		new_aligned_kept();
		delete new_aligned_deleted();
		new_nothrow_kept();
	}
	if (argc < 2 || strcmp(argv[1], "never fails"))
		new_fails();
	stop("done");
}
