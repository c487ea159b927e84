/* Into every unit test: a program that dies says where, because whoever reads the log of a machine that has gone has nothing else. That is an abort, a fault in a
 * thread other than the case's (cmocka's handler ends the program with -1), and the SIGTERM of a time limit, which shows where the main thread was. What was
 * written before is not lost in a buffer either. `addr2line -fie PROGRAM 0x…` names the lines of what stands in parentheses. */
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void say_where(void)
{
    void *trace[48];
    backtrace_symbols_fd(trace, backtrace(trace, sizeof trace / sizeof *trace), STDERR_FILENO);
}

static void on_signal(int number)
{
    say_where();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void on_end(int status, void *unused)
{
    (void)unused;
    if (status == -1)
        say_where();
}

__attribute__((constructor)) static void begin(void)
{
    void *first[1];
    (void)backtrace(first, 1); /* loads what it needs, which a handler may not */
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGTERM, on_signal);
    (void)on_exit(on_end, NULL);
}
