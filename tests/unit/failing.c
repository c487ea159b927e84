#include "failing.h"
#include "mem.h"
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { PLACES = 20000, DEPTH = 40, INNER = 9, CASE_SECONDS = 60, HOOKS = 4, ASKERS = 6, PASSED = 0, REFUSED = 40, LEAKED = 41, NOT_STARTED = 42, COMPLAINED = 43 };

int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup, CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup, CMFixtureFunction teardown);
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
void __sanitizer_symbolize_pc(void *pc, const char *format, char *out, size_t n) __attribute__((weak));

void __real_pl_heap_fail_at(unsigned n);
void __wrap_pl_heap_fail_at(unsigned n);

/* What the processes of one case and their parent share. */
static struct shared {
    uint64_t seen[PLACES];  /* places that the case asks at */
    void *asker[PLACES][ASKERS]; /* and the innermost callers there */
    unsigned seen_n;
    bool hit;               /* the wanted request came */
    bool own;               /* the case makes allocations fail by itself */
    int trace_n;
    void *trace[DEPTH];     /* its callers */
} *sh;
static uint64_t done[PLACES]; /* places that failed in this program already */
static unsigned done_n;
static uint64_t wanted;
static bool in_child;
static int outer; /* frames below a case */
static struct { void (*make)(void), (*rewind)(void); } hooks[HOOKS];
static unsigned makes, rewinds;

void failing_again(void (*make)(void))
{
    if (makes < HOOKS)
        hooks[makes++].make = make;
}

void failing_start(void (*make)(void))
{
    if (getenv("PL_FAIL_ALLOC"))
        failing_again(make);
    else
        make();
}

void failing_rewind(void (*rewind_)(void))
{
    if (rewinds < HOOKS)
        hooks[rewinds++].rewind = rewind_;
}

void __wrap_pl_heap_fail_at(unsigned n)
{
    if (sh)
        sh->own = true;
    __real_pl_heap_fail_at(n);
}

/* The place that asks: the innermost callers. Two cases that come by the same way ask at the same place. */
static uint64_t place(void **trace, int *ret_n)
{
    uint64_t h = UINT64_C(14695981039346656037);
    *ret_n = backtrace(trace, DEPTH);
    for (int i = 3; i < (*ret_n > outer ? *ret_n - outer : *ret_n) && i < INNER; i++)
        h = (h ^ (uint64_t)(uintptr_t)trace[i]) * UINT64_C(1099511628211);
    return h ? h : 1;
}

static bool notes(void)
{
    void *trace[DEPTH];
    int n;
    uint64_t p = place(trace, &n);
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    PL_LOCK(&lock);
    for (unsigned i = 0; i < sh->seen_n; i++)
        if (sh->seen[i] == p)
            return false;
    if (sh->seen_n < PLACES) {
        memcpy(sh->asker[sh->seen_n], trace + 2, sizeof sh->asker[0]);
        sh->seen[sh->seen_n++] = p;
    }
    return false;
}

static bool fails(void)
{
    void *trace[DEPTH];
    int n;
    if (__atomic_load_n(&sh->hit, __ATOMIC_SEQ_CST) || place(trace, &n) != wanted || __atomic_exchange_n(&sh->hit, true, __ATOMIC_SEQ_CST))
        return false;
    sh->trace_n = n;
    memcpy(sh->trace, trace, sizeof trace);
    return true;
}

static void arm(bool (*how)(void)) { pl_mem_hook(how); }

static _Noreturn void end(int how)
{
    arm(NULL);
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0)
        how = LEAKED;
    fflush(NULL);
    _exit(how);
}

/* cmocka's: every assertion that does not hold ends here. In a process of a case the stack is still as it was, so what it holds is not a leak. */
void _fail(const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold\n", file, line);
    if (in_child)
        end(REFUSED);
    fflush(NULL);
    abort();
}

/* What a test asks for itself, with no function of ours between, proves nothing when it is refused. */
static bool asked_by_the_test(void *const *asker)
{
    char line[512];
    const char *below = strcmp(program_invocation_short_name, "test_base") == 0 ? "/base/mem.c" : "/server/base/"; /* strings and buffers are the test's hands elsewhere */
    for (int i = 0; i < ASKERS && __sanitizer_symbolize_pc; i++) {
        __sanitizer_symbolize_pc(asker[i], "%s", line, sizeof line);
        if (!strstr(line, below) && !(i < 2 && strstr(line, "failing.c")))
            return strstr(line, "tests/unit/");
    }
    return false;
}

/* Who is to blame for a fault: a test that uses what it was refused without a look ends as if it had asserted. Told apart only where the sanitizer knows sources. */
static bool by_the_test(void)
{
    void *trace[DEPTH];
    char line[512];
    int n = backtrace(trace, DEPTH);
    for (int i = 2; i < n && __sanitizer_symbolize_pc; i++) {
        __sanitizer_symbolize_pc(trace[i], "%s", line, sizeof line);
        if (strstr(line, "failing.c") || strstr(line, "sanitizer"))
            continue;
        if (strstr(line, "tests/unit/"))
            return true;
        if (strstr(line, "/server/") || strstr(line, "/hub/") || strstr(line, "/viewer/"))
            return false;
    }
    return false;
}

static struct sigaction before;
static void on_fault(int sig)
{
    if (by_the_test())
        end(REFUSED);
    sigaction(sig, sig == SIGSEGV ? &before : &(struct sigaction){ .sa_handler = SIG_DFL }, NULL); /* it happens again, and the sanitizer tells */
}

/* A connection that was inherited is the parent's. */
static void break_sockets(void)
{
    int pair[2];
    struct sockaddr_storage peer;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    close(pair[1]);
    for (int fd = 3; fd < 1024; fd++) {
        socklen_t n = sizeof peer;
        if (fd != pair[0] && getpeername(fd, (struct sockaddr *)&peer, &n) == 0)
            dup2(pair[0], fd);
    }
    close(pair[0]);
}

static _Noreturn void run_case(const struct CMUnitTest *t, bool (*how)(void))
{
    void *state = t->initial_state, *trace[DEPTH];
    in_child = true;
    outer = backtrace(trace, DEPTH) - 1;
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGSEGV, &(struct sigaction){ .sa_handler = on_fault, .sa_flags = SA_NODEFER }, &before);
    sigaction(SIGABRT, &(struct sigaction){ .sa_handler = on_fault, .sa_flags = SA_NODEFER }, NULL); /* helpers of tests do so */
    alarm(CASE_SECONDS);
    break_sockets();
    for (unsigned i = 0; i < makes; i++)
        hooks[i].make();
    arm(how);
    if (t->setup_func && t->setup_func(&state) != 0)
        end(REFUSED);
    t->test_func(&state);
    arm(NULL);
    if (t->teardown_func && t->teardown_func(&state) != 0)
        end(REFUSED);
    end(PASSED);
}

/* UBSan goes on after its word; a test's own use of what it was refused is not meant. */
static bool complained(FILE *log)
{
    char line[1024];
    bool found = false;
    rewind(log);
    while (!found && fgets(line, sizeof line, log))
        found = strstr(line, ": runtime error: ") && !strstr(line, "tests/unit/");
    return found;
}

/* One process; its output goes into `log`. */
static int run_one(const struct CMUnitTest *t, bool (*how)(void), FILE *log)
{
    int status;
    fflush(NULL);
    for (unsigned i = 0; i < rewinds; i++)
        hooks[i].rewind();
    if (ftruncate(fileno(log), 0) != 0 || lseek(fileno(log), 0, SEEK_SET) != 0)
        return NOT_STARTED;
    sh->hit = false;
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        dup2(fileno(log), 1);
        dup2(fileno(log), 2);
        run_case(t, how);
    }
    if (pid < 0)
        return NOT_STARTED;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    kill(-pid, SIGKILL); /* programs that it had started */
    int ended = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return (ended == PASSED || ended == REFUSED) && complained(log) ? COMPLAINED : ended;
}

static void say_finding(const struct CMUnitTest *t, int how, FILE *log)
{
    char line[1024];
    printf("%s: with a request for memory refused: %s\n", t->name, how == LEAKED ? "a leak" : how == 128 + SIGALRM ? "no end" : how == COMPLAINED ? "undefined behaviour" : "a crash");
    for (int i = 2; i < sh->trace_n && i < 14; i++) {
        snprintf(line, sizeof line, "%p", sh->trace[i]);
        if (__sanitizer_symbolize_pc)
            __sanitizer_symbolize_pc(sh->trace[i], "%f %s:%l", line, sizeof line);
        printf("    %s\n", line);
    }
    rewind(log);
    while (fgets(line, sizeof line, log))
        printf("  | %s", line);
}

static bool is_done(uint64_t p)
{
    for (unsigned i = 0; i < done_n; i++)
        if (done[i] == p)
            return true;
    if (done_n < PLACES)
        done[done_n++] = p;
    return false;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct totals { unsigned places, absorbed, refused, findings, missed, alone, left; };

static bool one_case(const struct CMUnitTest *t, double until, FILE *log, struct totals *sum)
{
    static uint64_t due[PLACES];
    unsigned n = 0, findings = 0;
    sh->seen_n = 0;
    sh->own = false;
    int how = run_one(t, notes, log);
    if (how != PASSED) { /* without a refusal: it wants what an earlier case left */
        printf("%s does not pass by itself (%d)\n", t->name, how);
        sum->alone++;
        return true;
    }
    if (sh->own)
        return true;
    for (unsigned i = 0; i < sh->seen_n; i++)
        if (!is_done(sh->seen[i]) && !asked_by_the_test(sh->asker[i]))
            due[n++] = sh->seen[i];
    for (unsigned i = 0; i < n; i++) {
        if (until > 0 && seconds() >= until) {
            sum->left += n - i;
            break;
        }
        wanted = due[i];
        how = run_one(t, fails, log);
        sum->places++;
        sum->missed += !sh->hit; /* another order of threads: this time nobody came by there */
        sum->absorbed += how == PASSED && sh->hit;
        sum->refused += how == REFUSED;
        if (how != PASSED && how != REFUSED) {
            say_finding(t, how, log);
            findings++;
        }
    }
    sum->findings += findings;
    return findings == 0;
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const char *given = getenv("PL_FAIL_ALLOC"), *only = getenv("PL_FAIL_CASE");
    struct totals sum = { 0 };
    void *state = NULL, *trace[DEPTH];
    int bad = 0;
    if (!given)
        return __real__cmocka_run_group_tests(name, tests, n, setup, teardown);
    double most = strtod(given, NULL), began = seconds();
    FILE *log = tmpfile();
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!log || sh == MAP_FAILED || (setup && setup(&state) != 0))
        return 1;
    (void)backtrace(trace, DEPTH); /* loads what it needs now, not in a case */
    for (size_t i = 0; i < n; i++) {
        if (only && strcmp(only, tests[i].name) != 0)
            continue;
        double share = most * (double)(i + 1) / (double)n; /* a case that has many places leaves the later ones their time */
        bool ok = one_case(&tests[i], most > 0 ? began + share : 0, log, &sum);
        printf(ok ? "[       OK ] %s\n" : "[  FAILED  ] %s\n", tests[i].name);
        fflush(stdout);
        bad += !ok;
    }
    printf("%s: %u places: %u absorbed, %u refused, %u not met again, %u findings; %u left; %u cases not by themselves; %.0f s\n", name,
           sum.places, sum.absorbed, sum.refused, sum.missed, sum.findings, sum.left, sum.alone, seconds() - began);
    fclose(log);
    if (teardown)
        (void)teardown(&state);
    return bad;
}
