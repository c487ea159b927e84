/* secure_pages.h - the memory of password hashes, kept from one to the next. Not a door: secure.c's own.
 *
 * libsodium maps 19 MiB for each hash and unmaps them after it; what the kernel does for that, 4,864 faults and as many pages of zeros, takes as long as argon2id
 * itself (bench/RESULTS.md). It takes no allocator. So between secure_pages_begin() and secure_pages_end() the mmap and munmap that it calls on this thread are ours:
 * a program's own symbol comes before a shared library's (ELF). They hand out what an earlier hash has left. Everybody else gets the kernel's.
 *
 * At most as many mappings are kept as hashes ran at once (http's heavy workers). While they wait the kernel may take their pages (MADV_FREE); no core dump has
 * them. They are wiped first: what argon2 leaves in them would make a guess cheap.
 * Built without it (sanitizers have an mmap of their own) each hash has fresh memory. */
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SECURE_PAGES_KEPT 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SECURE_PAGES_KEPT 0
#endif
#endif
#ifndef SECURE_PAGES_KEPT
#define SECURE_PAGES_KEPT 1
#endif

void secure_pages_begin(void);
void secure_pages_end(void);
