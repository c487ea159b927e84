/* failing.h - every unit test again with one allocation failing, each in turn (failing.c, linked into every unit test).
 *
 * With PL_FAIL_ALLOC=SECONDS in the environment a test binary runs each of its cases in processes of their own: once to see which places ask for memory (a place is the
 * chain of callers), then once for each place, whose first request fails: of the heap (jansson's come by it, too) and of arenas. Right is: the case passes all the same, or an
 * assertion sees that something was refused, with nothing that nobody holds any more (LeakSanitizer looks at the moment of the assertion). Wrong is: a crash, a
 * sanitizer's complaint, a leak, a case that never ends. Places that are left when the seconds are over are counted and said; without a limit (0) there are none.
 * Threads, connections and sockets that a test's main has made do not come along into those processes: what makes them registers how they are made again.
 * A case that makes allocations fail by itself is left to it.
 *     failing_again(open_connection);    run in each process before the case, in the order of registration
 *     failing_start(start_provider);     the same, and in an ordinary run at once: for threads, of which the parent must have none
 *     failing_rewind(empty_tables);      run by the parent before each process
 */
#pragma once

void failing_again(void (*make)(void));
void failing_start(void (*make)(void));
void failing_rewind(void (*rewind_)(void));
