/* porchctl's parts: addresses, files, keys, and the supervisor with real processes. */
#include "ctl_check.h"
#include "ctl_file.h"
#include "ctl_proc.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct pl_arena *arena;
static char folder[64];

static const char *in_folder(const char *name) { return pl_fmt(arena, "%s/%s", folder, name).p; }

static int up(void **state)
{
    (void)state;
    arena = pl_arena_new(16 << 20);
    memcpy(folder, "/tmp/plctl.XXXXXX", sizeof "/tmp/plctl.XXXXXX");
    return arena && mkdtemp(folder) ? 0 : -1;
}

static int down(void **state)
{
    (void)state;
    static const char *const names[] = { "log", "a/b/c", "a/b", "a", "file", "file.new", "count" };
    for (size_t i = 0; i < PL_COUNT(names); i++)
        remove(in_folder(names[i]));
    rmdir(folder);
    arena = pl_arena_free(arena);
    return 0;
}

static void addresses(void **state)
{
    (void)state;
    static const char *const good[] = { "127.0.0.1:8080", "0.0.0.0:0", "[::1]:65535", "[::]:1" };
    static const char *const bad[] = { "", ":1", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "localhost:80", "::1:80", "[127.0.0.1]:80", "[::1:80", "1.2.3:4",
                                       "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]:1" };
    for (size_t i = 0; i < PL_COUNT(good); i++)
        assert_int_equal(check_address("--http", good[i], NULL), PL_OK);
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        struct pl_fail fail = PL_FAIL_INIT;
        assert_int_equal(check_address("--http", bad[i], &fail), PL_INVALID_REQUEST);
        assert_non_null(strstr(fail.detail, "--http"));
    }
    assert_string_equal(check_dial(arena, "0.0.0.0:8081"), "127.0.0.1:8081");
    assert_string_equal(check_dial(arena, "[::]:8081"), "[::1]:8081");
    assert_string_equal(check_dial(arena, "10.0.0.1:8081"), "10.0.0.1:8081");
}

static void files_are_whole_and_private(void **state)
{
    (void)state;
    struct pl_str text;
    struct stat st;
    assert_int_equal(ctl_mkdirs(arena, in_folder("a/b/c"), 0700, NULL), PL_OK);
    assert_int_equal(ctl_mkdirs(arena, in_folder("a/b/c"), 0700, NULL), PL_OK);
    assert_int_equal(stat(in_folder("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(ctl_read(arena, in_folder("file"), 100, &text, NULL), PL_NOT_FOUND);
    assert_int_equal(ctl_write(arena, in_folder("file"), PL_STR("one"), NULL), PL_OK);
    assert_int_equal(ctl_write(arena, in_folder("file"), PL_STR("two and more"), NULL), PL_OK);
    assert_int_equal(ctl_read(arena, in_folder("file"), 100, &text, NULL), PL_OK);
    assert_true(pl_str_eqz(text, "two and more"));
    assert_int_equal(stat(in_folder("file"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(ctl_read(arena, in_folder("file"), 5, &text, NULL), PL_IO);
    assert_int_equal(ctl_mkdirs(arena, in_folder("file/under"), 0700, NULL), PL_IO);
}

/* Somebody who may write in the folder waits for a secret: with a file of his, that he holds open, or a link, in the place where it is made. */
static void a_file_that_waits_for_a_secret_does_not_get_it(void **state)
{
    (void)state;
    struct pl_str text;
    struct stat st;
    char held[8] = "";
    int fd = open(in_folder("file.new"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(ctl_write(arena, in_folder("file"), PL_STR("secret"), NULL), PL_OK);
    assert_int_equal(pread(fd, held, sizeof held, 0), 0);
    close(fd);
    assert_int_equal(stat(in_folder("file"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(symlink(in_folder("count"), in_folder("file.new")), 0);
    assert_int_equal(ctl_write(arena, in_folder("file"), PL_STR("another"), NULL), PL_OK);
    assert_false(ctl_exists(in_folder("count")));
    assert_int_equal(lstat(in_folder("file"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(ctl_read(arena, in_folder("file"), 100, &text, NULL), PL_OK);
    assert_true(pl_str_eqz(text, "another"));
}

/* RFC 8032, 7.1, first vector. */
static void keys_are_ed25519(void **state)
{
    (void)state;
    struct pl_str pub, seed, again;
    assert_int_equal(ctl_key_public(arena, PL_STR("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n"), &pub), PL_OK);
    assert_true(pl_str_eqz(pub, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
    assert_int_not_equal(ctl_key_public(arena, PL_STR("9d61"), &pub), PL_OK);
    assert_int_equal(ctl_key_new(arena, &seed, &pub), PL_OK);
    assert_int_equal(ctl_key_public(arena, seed, &again), PL_OK);
    assert_true(pl_str_eq(pub, again));
}

static struct proc shell(const char *script)
{
    struct proc p = { .name = "a shell", .log = in_folder("log"), .stop_signal = SIGTERM, .stop_grace = 200 * PL_MS };
    proc_arg(&p, "/bin/sh");
    proc_arg(&p, "-c");
    proc_arg(&p, script);
    return p;
}

static struct sup sup;
static void begin(void) { assert_int_equal(sup_init(&sup, &pl_clock_system, NULL), PL_OK); }

static bool gone(pid_t pid) { return kill(pid, 0) != 0; }

static void one_that_dies_is_started_again(void **state)
{
    (void)state;
    struct proc p = shell("echo noise; echo '{\"ready\":true,\"at\":\"here\"}'; exec cat /dev/zero >/dev/null");
    p.at_once = true;
    begin();
    assert_int_equal(sup_start(&sup, &p, 10 * PL_SECOND, NULL), PL_OK);
    assert_string_equal(p.ready_line, "{\"ready\":true,\"at\":\"here\"}");
    for (int i = 0; i < 3; i++) {
        pid_t old = p.pid;
        kill(old, SIGKILL);
        while (p.pid == old || !p.ready)
            sup_step(&sup, 10 * PL_SECOND);
        assert_true(gone(old));
    }
    assert_int_equal(p.deaths, 3);
    pid_t last = p.pid;
    sup_stop_all(&sup);
    assert_true(gone(last));
}

static void one_that_cannot_start_says_why(void **state)
{
    (void)state;
    struct pl_fail fail = PL_FAIL_INIT;
    struct proc p = shell("echo 'the moon is too low' >&2; exit 3"), missing = shell("");
    begin();
    assert_int_equal(sup_start(&sup, &p, 10 * PL_SECOND, &fail), PL_UNAVAILABLE);
    assert_non_null(strstr(fail.detail, "the moon is too low"));
    missing.argv[0] = "/nonexistent/program";
    assert_int_equal(sup_start(&sup, &missing, 10 * PL_SECOND, &fail), PL_UNAVAILABLE);
    assert_non_null(strstr(fail.detail, "/nonexistent/program"));
    sup_stop_all(&sup);
}

/* Fails twice before it is ready: the retries at the start are for a folder that is still held. */
static void retries_at_start(void **state)
{
    (void)state;
    const char *script = pl_fmt(arena, "echo x >>%s; [ $(wc -l <%s) -ge 3 ] || exit 1; echo '{\"ready\":true}'; exec cat /dev/zero >/dev/null", in_folder("count"), in_folder("count")).p;
    struct proc p = shell(script);
    p.retries_at_start = 2;
    begin();
    assert_int_equal(sup_start(&sup, &p, 10 * PL_SECOND, NULL), PL_OK);
    assert_int_equal(p.deaths, 2);
    sup_stop_all(&sup);
}

static void one_that_does_not_end_is_killed(void **state)
{
    (void)state;
    struct proc p = shell("trap '' TERM; echo '{\"ready\":true}'; while :; do read x </dev/zero; done");
    begin();
    assert_int_equal(sup_start(&sup, &p, 10 * PL_SECOND, NULL), PL_OK);
    pid_t pid = p.pid;
    sup_stop_all(&sup);
    assert_true(gone(pid));
    assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGKILL);
}

static void a_signal_to_us_is_a_wish_to_end(void **state)
{
    (void)state;
    struct proc p = shell("exec cat /dev/zero >/dev/null");
    begin();
    assert_false(sup_stop_wanted(&sup));
    kill(getpid(), SIGTERM);
    assert_int_equal(sup_start(&sup, &p, 10 * PL_SECOND, NULL), PL_EXPIRED);
    assert_true(sup_stop_wanted(&sup));
    sup_stop_all(&sup);
}

static void runs_to_the_end(void **state)
{
    (void)state;
    struct pl_fail fail = PL_FAIL_INIT;
    struct proc ok = shell("read a; [ \"$a\" = hello ]"), bad = shell("echo broken >&2; exit 1"), endless = shell("exec cat /dev/zero >/dev/null");
    begin();
    assert_int_equal(proc_run(&sup, &ok, PL_STR("hello\n"), 10 * PL_SECOND, NULL), PL_OK);
    assert_int_equal(proc_run(&sup, &bad, PL_STR_NONE, 10 * PL_SECOND, &fail), PL_UNAVAILABLE);
    assert_non_null(strstr(fail.detail, "broken"));
    assert_int_equal(proc_run(&sup, &endless, PL_STR_NONE, 50 * PL_MS, &fail), PL_UNAVAILABLE);
    assert_int_equal(sup.n, 0);
    sup_stop_all(&sup);
}

static void command_lines(void **state)
{
    (void)state;
    static const struct { const char *const words[6]; int code; } rows[] = {
        { { "porchctl", "--help" }, 0 }, { { "porchctl", "up", "--help" }, 0 }, { { "porchctl", "nope" }, 64 }, { { "porchctl", "up", "--nope" }, 64 }, { { "porchctl", "up", "--http" }, 64 },
        { { "porchctl", "status", "--demo" }, 64 }, { { "porchctl", "up", "--demo=yes" }, 64 }, { { "porchctl", "inventory" }, 64 }, { { "porchctl", "inventory", "import" }, 64 },
        { { "porchctl", "--dir=/nonexistent", "status" }, 1 }, { { "porchctl", "--dir", "/nonexistent", "session", "explain", "../x" }, 1 } };
    int out = dup(1);
    assert_non_null(freopen("/dev/null", "w", stdout));
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        int n = 0;
        while (n < (int)PL_COUNT(rows[i].words) && rows[i].words[n])
            n++;
        assert_int_equal(ctl_main(n, (char **)rows[i].words), rows[i].code);
    }
    fflush(stdout);
    dup2(out, 1);
    close(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(addresses, up, down), cmocka_unit_test_setup_teardown(files_are_whole_and_private, up, down),
        cmocka_unit_test_setup_teardown(a_file_that_waits_for_a_secret_does_not_get_it, up, down), cmocka_unit_test_setup_teardown(keys_are_ed25519, up, down),
        cmocka_unit_test_setup_teardown(one_that_dies_is_started_again, up, down),
        cmocka_unit_test_setup_teardown(one_that_cannot_start_says_why, up, down), cmocka_unit_test_setup_teardown(retries_at_start, up, down),
        cmocka_unit_test_setup_teardown(one_that_does_not_end_is_killed, up, down), cmocka_unit_test_setup_teardown(a_signal_to_us_is_a_wish_to_end, up, down),
        cmocka_unit_test_setup_teardown(runs_to_the_end, up, down), cmocka_unit_test_setup_teardown(command_lines, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
