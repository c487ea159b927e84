/* base: memory by scope, strings with ceilings, clocks, ids, settings, the worker pool. */
#include "conf.h"
#include "log.h"
#include "pool.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static void arena_ceiling_sticks(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4096);
    assert_non_null(pl_alloc(a, 4000));
    assert_null(pl_alloc(a, 200));
    assert_null(pl_alloc(a, 1)); /* the failure sticks, though one byte would fit */
    assert_int_equal(pl_arena_err(a), PL_NO_MEMORY);
    pl_arena_reset(a);
    assert_int_equal(pl_arena_err(a), PL_OK);
    assert_non_null(pl_alloc(a, 4000));
    assert_null(pl_alloc_array(a, SIZE_MAX / 2, 3));
}

static void arena_gives_zeroes_after_reset(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++) {
            unsigned char *p = pl_alloc(a, 1000);
            for (int k = 0; k < 1000; k++)
                assert_int_equal(p[k], 0);
            memset(p, 0xaa, 1000);
        }
        pl_arena_reset(a);
    }
}

static void arena_survives_no_memory(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 3; n++) {
        pl_heap_fail_at(n);
        struct pl_arena *a = pl_arena_new(1 << 20);
        if (a && !pl_alloc(a, 100 * 1024))
            assert_int_equal(pl_arena_err(a), PL_NO_MEMORY);
        pl_heap_fail_at(0);
        assert_null(pl_arena_free(a));
    }
}

static void buf_has_a_ceiling(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct pl_buf b = pl_buf_init(a, 10);
    pl_buf_z(&b, "12345");
    pl_buf_fmt(&b, "%d", 67890);
    assert_int_equal(pl_buf_err(&b), PL_OK);
    assert_string_equal(b.p, "1234567890");
    pl_buf_u8(&b, 'x');
    pl_buf_z(&b, "");
    assert_int_equal(pl_buf_err(&b), PL_NO_MEMORY);
    assert_int_equal(b.n, 10); /* nothing was cut into it */
    char mem[4];
    struct pl_buf f = pl_buf_fixed(mem, sizeof mem);
    pl_buf_z(&f, "abc");
    assert_int_equal(pl_buf_err(&f), PL_OK);
    pl_buf_u8(&f, 'd');
    assert_int_equal(pl_buf_err(&f), PL_NO_MEMORY);
    assert_string_equal(mem, "abc");
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    static const struct { struct pl_str in; const char *out; } rows[] = {
        { PL_STR_INIT("plain"), "\"plain\"" },
        { PL_STR_INIT("a\"b\\c\n\t"), "\"a\\\"b\\\\c\\n\\u0009\"" },
        { PL_STR_INIT("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\"" },
        { PL_STR_INIT("bad\xff!"), "\"bad\xef\xbf\xbd!\"" },
        { PL_STR_INIT("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" }, /* a surrogate is not UTF-8 */
        { PL_STR_INIT("x\0y"), "\"x\\u0000y\"" },
    };
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 16);
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_buf b = pl_buf_init(a, 100);
        pl_buf_json(&b, rows[i].in);
        assert_string_equal(b.p, rows[i].out);
    }
}

static void numbers_are_parsed_whole(void **state)
{
    (void)state;
    static const struct { const char *in; enum pl_err e; uint64_t v; } rows[] = {
        { "0", PL_OK, 0 }, { "18446744073709551615", PL_OK, UINT64_MAX }, { "18446744073709551616", PL_INVALID_REQUEST, 0 }, { "", PL_INVALID_REQUEST, 0 },
        { " 1", PL_INVALID_REQUEST, 0 }, { "1 ", PL_INVALID_REQUEST, 0 }, { "-1", PL_INVALID_REQUEST, 0 }, { "+1", PL_INVALID_REQUEST, 0 }, { "0x1", PL_INVALID_REQUEST, 0 },
    };
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        uint64_t v = 0;
        assert_int_equal(pl_parse_u64(pl_str_of(rows[i].in), 0, UINT64_MAX, &v), rows[i].e);
        assert_true(v == rows[i].v);
    }
    int64_t s;
    assert_int_equal(pl_parse_i64(PL_STR("-9223372036854775807"), INT64_MIN, INT64_MAX, &s), PL_OK);
    assert_true(s == INT64_MIN + 1);
    assert_int_equal(pl_parse_i64(PL_STR("-5"), -4, 4, &s), PL_INVALID_REQUEST);
}

static void wire_reader_never_passes_the_end(void **state)
{
    (void)state;
    const uint8_t bytes[] = { 1, 2, 3, 4, 5 };
    struct pl_rd r = pl_rd_of(bytes, sizeof bytes);
    assert_int_equal(pl_rd_u16(&r), 0x0102);
    assert_int_equal(pl_rd_u32(&r), 0);
    assert_true(r.short_);
    assert_int_equal(pl_rd_u8(&r), 0);
    assert_null(pl_rd_bytes(&r, 1).p);
}

static void base64url_is_exact(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 16);
    static const struct { const char *raw, *text; } rows[] = { { "", "" }, { "f", "Zg" }, { "fo", "Zm8" }, { "foo", "Zm9v" },
                                                                    { "foob", "Zm9vYg" }, { "fooba", "Zm9vYmE" }, { "foobar", "Zm9vYmFy" } }; /* RFC 4648, 10 */
    uint8_t out[8];
    size_t n;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        assert_string_equal(pl_b64url(a, rows[i].raw, strlen(rows[i].raw)).p, rows[i].text);
        assert_int_equal(pl_unb64url_any(pl_str_of(rows[i].text), out, sizeof out, &n), PL_OK);
        assert_int_equal(n, strlen(rows[i].raw));
        assert_memory_equal(out, rows[i].raw, n);
    }
    static const char *const bad[] = { "Z", "Zh", "Zg==", "Zm9v+", "Zm 9", "Zm9vYmFyZm9v" }; /* short, left-over bits, padding, other alphabet, blank, too long */
    for (size_t i = 0; i < PL_COUNT(bad); i++)
        assert_int_equal(pl_unb64url_any(pl_str_of(bad[i]), out, sizeof out, &n), PL_INVALID_REQUEST);
}

static void times_are_rfc3339(void **state)
{
    (void)state;
    struct pl_utc t;
    char text[PL_UTC_TEXT];
    assert_int_equal(pl_utc_parse(PL_STR("2026-11-21T08:58:00.5Z"), &t), PL_OK);
    assert_true(t.us == INT64_C(1795251480500000));
    pl_utc_text(t, text);
    assert_string_equal(text, "2026-11-21T08:58:00.500Z");
    static const char *const bad[] = { "2026-11-21", "2026-11-21T08:58:00", "2026-02-31T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T08:58:00+01:00", "2026-13-21T08:58:00Z" };
    for (size_t i = 0; i < PL_COUNT(bad); i++)
        assert_int_equal(pl_utc_parse(pl_str_of(bad[i]), &t), PL_INVALID_REQUEST);
    pl_utc_text((struct pl_utc){ -1 }, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void uuid7_tells_its_time(void **state)
{
    (void)state;
    struct pl_rand_seeded rand;
    pl_rand_seed(&rand, 7);
    struct pl_utc now = { INT64_C(1795251480123000) };
    struct pl_uuid u = pl_uuid7(&rand.base, now), back;
    char text[PL_UUID_TEXT];
    pl_uuid_text(u, text);
    assert_int_equal(text[14], '7');
    assert_non_null(strchr("89ab", text[19]));
    uint64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | u.b[i];
    assert_true(ms == UINT64_C(1795251480123));
    assert_int_equal(pl_uuid_parse(pl_str_of(text), &back), PL_OK);
    assert_true(pl_uuid_eq(u, back));
    assert_int_equal(pl_uuid_parse(PL_STR("0190b5a1-0000-7000-8000-00000000000"), &back), PL_INVALID_REQUEST);
    assert_int_equal(pl_uuid_parse(PL_STR("0190b5a1000070008000000000000000dead"), &back), PL_INVALID_REQUEST);
}

struct settings {
    struct pl_str name, level, url, at;
    int64_t n, wait;
    bool on;
};
static const char *const levels[] = { "low", "middle", "high", NULL }, *const schemes[] = { "smtp://", "smtps://", NULL };
static const struct conf_row rows[] = { CONF_STR("name", struct settings, name, 8, "x", "A name."), CONF_NUM("n", struct settings, n, 1, 9, "3", "A number."),
                                        CONF_DUR("wait", struct settings, wait, PL_SECOND, PL_HOUR, "90s", "A time."), CONF_BOOL("on", struct settings, on, "true", "A switch."),
                                        CONF_WORD("log.level", struct settings, level, levels, "low", "A word."), CONF_URL("url", struct settings, url, 64, schemes, "", "An address."),
                                        CONF_LISTEN("listen", struct settings, at, 64, "127.0.0.1:80", "A place."), CONF_END };

static void conf_is_rows(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct pl_fail fail = PL_FAIL_INIT;
    struct settings s;
    assert_int_equal(conf_parse(rows, &s, PL_STR(""), "f", a, &fail), PL_OK); /* an empty file is a good file */
    assert_true(s.n == 3 && s.on && s.wait == 90 * PL_SECOND);
    assert_int_equal(conf_parse(rows, &s, PL_STR("# all of it\nname = porch # said\nn=9\nwait = 5m\non = false"), "f", a, &fail), PL_OK);
    assert_true(s.n == 9 && !s.on && s.wait == 5 * PL_MINUTE && pl_str_eqz(s.name, "porch"));
    static const struct { const char *text, *says; } bad[] = {
        { "\nn = 10", "f:2: n wants a number from 1 to 9" }, { "colour = red", "f:1: there is no setting \"colour\"" }, { "n = 1\nn = 1", "f:2: n stands twice" },
        { "wait = soon", "f:1: wait wants a time such as 90s, 40m or 24h, from 1s to 3600s" }, { "n", "f:1: wants `name = value`" }, { "name = 123456789", "f:1: name is longer than 8 bytes" },
        { "log.level = loud", "f:1: log.level wants low, middle or high" }, { "lgo.level = low", "f:1: there is no setting \"lgo.level\", but there is log.level" },
        { "n=1\n\nurl = mail.example", "f:3: url wants an address that begins with smtp:// or smtps://" },
        { "listen = 8080", "f:1: listen wants HOST:PORT, such as 127.0.0.1:8080, or unix:/PATH" }, { "listen = a:65536", "f:1: listen wants HOST:PORT, such as 127.0.0.1:8080, or unix:/PATH" },
        { "listen = unix:here", "f:1: listen wants HOST:PORT, such as 127.0.0.1:8080, or unix:/PATH" } };
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        assert_int_equal(conf_parse(rows, &s, pl_str_of(bad[i].text), "f", a, &fail), PL_INVALID_REQUEST);
        assert_string_equal(fail.detail, bad[i].says);
    }
    assert_int_equal(conf_parse(rows, &s, PL_STR("log.level = high\nurl = smtps://mail.example:465\nlisten = unix:/run/x"), "f", a, &fail), PL_OK);
    assert_int_equal(conf_parse(rows, &s, PL_STR("url =\nlisten = [::1]:0"), "f", a, &fail), PL_OK);
    struct pl_buf b = pl_buf_init(a, 4096);
    conf_sample(rows, &b);
    assert_int_equal(conf_parse(rows, &s, pl_buf_view(&b), "sample", a, &fail), PL_OK); /* the sample is itself a good file */
}

/* Log lines go through a pipe here. */
static void log_lines_are_json_with_context(void **state)
{
    (void)state;
    int fds[2];
    char line[4096] = { 0 };
    assert_int_equal(pipe(fds), 0);
    pl_log_to(fds[1]);
    struct pl_log root = { NULL, PL_F_Z("node", "n1") };
    struct pl_log log = pl_log_child(&root, PL_F_INT("conn", 7));
    PL_LOG(&log, PL_DEBUG, "test.quiet", PL_F_INT("n", 1)); /* below the level: no line */
    PL_LOG(&log, PL_WARN, "test.said", PL_F_MASKED("email", PL_STR("anna@example.org")), PL_F_STR("why", PL_STR("a\"b")));
    assert_true(read(fds[0], line, sizeof line - 1) > 0);
    pl_log_to(2);
    assert_non_null(strstr(line, "\"level\":\"warn\",\"event\":\"test.said\",\"node\":\"n1\",\"conn\":7,\"email\":\"a***g\",\"why\":\"a\\\"b\"}\n"));
    assert_null(strstr(line, "anna"));
    close(fds[0]);
    close(fds[1]);
}

/* The pool: what the tests wait for is a count under a lock, never time. */
struct tally {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned done;
    int order[64];
    bool hold;
};
static struct tally tally = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, { 0 }, false };
static void lane_job(void *arg, void *state)
{
    (void)state;
    PL_LOCK(&tally.lock);
    while (tally.hold)
        pthread_cond_wait(&tally.changed, &tally.lock);
    tally.order[tally.done++] = (int)(intptr_t)arg;
    pthread_cond_broadcast(&tally.changed);
}

static void pool_keeps_lanes_in_order(void **state)
{
    (void)state;
    struct pl_pool *p;
    tally.done = 0;
    assert_int_equal(pl_pool_new(&(struct pl_pool_conf){ .threads = 4, .queue = 64 }, &p), PL_OK);
    for (intptr_t i = 0; i < 40; i++)
        assert_int_equal(pl_pool_submit(p, (struct pl_job){ lane_job, (void *)i, 5 }), PL_OK);
    assert_null(pl_pool_free(p)); /* finishes what is queued */
    assert_int_equal(tally.done, 40);
    for (int i = 0; i < 40; i++)
        assert_int_equal(tally.order[i], i);
}

static void pool_refuses_when_full(void **state)
{
    (void)state;
    struct pl_pool *p;
    unsigned taken = 0;
    tally.done = 0;
    tally.hold = true;
    assert_int_equal(pl_pool_new(&(struct pl_pool_conf){ .threads = 1, .queue = 3 }, &p), PL_OK);
    for (int i = 0; i < 20; i++)
        taken += pl_pool_submit(p, (struct pl_job){ lane_job, NULL, 0 }) == PL_OK;
    assert_in_range(taken, 3, 4); /* three wait, one may run already */
    pthread_mutex_lock(&tally.lock);
    tally.hold = false;
    pthread_cond_broadcast(&tally.changed);
    pthread_mutex_unlock(&tally.lock);
    pl_pool_free(p);
    assert_int_equal(tally.done, taken);
}

static void say_niceness(void *arg, void *state)
{
    (void)state;
    *(int *)arg = getpriority(PRIO_PROCESS, 0);
}

/* S-A3: threads of costly work stand back behind the others; nobody else is touched. */
static void pool_threads_can_stand_back(void **state)
{
    (void)state;
    struct pl_pool *p;
    int own = getpriority(PRIO_PROCESS, 0), said = -100;
    assert_int_equal(pl_pool_new(&(struct pl_pool_conf){ .threads = 1, .queue = 1, .nice = 3 }, &p), PL_OK);
    assert_int_equal(pl_pool_submit(p, (struct pl_job){ say_niceness, &said, 0 }), PL_OK);
    pl_pool_free(p);
    assert_int_equal(said, own + 3 < 19 ? own + 3 : 19);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_ceiling_sticks), cmocka_unit_test(arena_gives_zeroes_after_reset), cmocka_unit_test(arena_survives_no_memory), cmocka_unit_test(buf_has_a_ceiling),
        cmocka_unit_test(json_strings_are_escaped), cmocka_unit_test(numbers_are_parsed_whole), cmocka_unit_test(wire_reader_never_passes_the_end),
        cmocka_unit_test(base64url_is_exact), cmocka_unit_test(times_are_rfc3339), cmocka_unit_test(uuid7_tells_its_time), cmocka_unit_test(conf_is_rows),
        cmocka_unit_test(log_lines_are_json_with_context), cmocka_unit_test(pool_keeps_lanes_in_order), cmocka_unit_test(pool_refuses_when_full), cmocka_unit_test(pool_threads_can_stand_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
