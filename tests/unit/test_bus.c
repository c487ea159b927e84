/* The contract of bus.h. Every implementation goes through the same cases: `makers` lists them. What only several nodes show stands in test_bus_io.c. */
#include "bus.h"
#include "nats_server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

/* A clock that any thread may move. */
static int64_t now_us; /* atomic */
static struct pl_mono test_mono(const struct pl_clock *c)
{
    (void)c;
    return (struct pl_mono){ __atomic_load_n(&now_us, __ATOMIC_SEQ_CST) };
}
static struct pl_utc test_utc(const struct pl_clock *c)
{
    (void)c;
    return (struct pl_utc){ 0 };
}
static const struct pl_clock clock_of_test = { test_mono, test_utc };

static struct nats_server nats;
static enum pl_err on_nats(struct bus **ret)
{
    static const struct pl_secret master = { { 1, 2, 3 } };
    static const struct pl_log log;
    return bus_nats_new(&(struct bus_nats_conf){ .url = nats.url, .token = NATS_TOKEN, .master = &master, .clock = &clock_of_test, .rand = &pl_rand_system, .log = &log }, ret, NULL);
}
static enum pl_err in_process(struct bus **ret) { return bus_new(&clock_of_test, ret); }

static const struct maker {
    const char *name;
    enum pl_err (*make)(struct bus **ret);
    bool two; /* who nudges and asks is on another node than who watches and serves */
} makers[] = { { "in-process", in_process, false }, { "on NATS, one node", on_nats, false }, { "on NATS, two nodes", on_nats, true } };
static const struct maker *maker;

struct fixture {
    struct bus *bus;  /* where subjects are watched and served */
    struct bus *from; /* where they are nudged and asked */
    struct pl_arena *a;
};

/* Until NATS is there the two do not hear each other. */
static bool connected(struct fixture *f);
static int setup(void **state)
{
    static struct fixture f;
    f.a = pl_arena_new(1 << 20);
    *state = &f;
    if (!f.a || maker->make(&f.bus) != PL_OK)
        return -1;
    f.from = f.bus;
    return !maker->two || (maker->make(&f.from) == PL_OK && connected(&f)) ? 0 : -1;
}
static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->from != f->bus)
        bus_free(f->from);
    f->bus = bus_free(f->bus);
    f->a = pl_arena_free(f->a);
    return 0;
}

/* Counts nudges and lets a thread wait for one: an implementation may deliver on a thread of its own. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int count;
    char last[64];
};
#define SEEN_INIT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, "" }
static void on_nudge(void *self, const char *subject)
{
    struct seen *s = self;
    PL_LOCK(&s->lock);
    s->count++;
    snprintf(s->last, sizeof s->last, "%s", subject);
    pthread_cond_broadcast(&s->more);
}
static void wait_for(struct seen *s, int count)
{
    PL_LOCK(&s->lock);
    while (s->count < count)
        pthread_cond_wait(&s->more, &s->lock); /* the suite's own timeout ends a test that fails here */
    assert_int_equal(s->count, count);
}

static void nudge_reaches_every_watcher_of_the_subject_only(void **state)
{
    struct fixture *f = *state;
    struct seen one = SEEN_INIT, two = SEEN_INIT, other = SEEN_INIT;
    struct bus_watch *w1, *w2, *w3;
    assert_int_equal(bus_watch(f->bus, "account.1", on_nudge, &one, &w1), PL_OK);
    assert_int_equal(bus_watch(f->bus, "account.1", on_nudge, &two, &w2), PL_OK);
    assert_int_equal(bus_watch(f->bus, "account.2", on_nudge, &other, &w3), PL_OK);
    bus_nudge(f->from, "account.1");
    bus_nudge(f->from, "nobody");
    wait_for(&one, 1);
    wait_for(&two, 1);
    w1 = bus_unwatch(w1);
    bus_nudge(f->from, "account.1");
    wait_for(&two, 2);
    assert_int_equal(one.count, 1);
    assert_int_equal(other.count, 0);
    bus_unwatch(w2);
    assert_null(bus_unwatch(w3));
    assert_null(bus_unwatch(NULL));
}

static void star_watches_all_below(void **state)
{
    struct fixture *f = *state;
    struct seen s = SEEN_INIT, exact = SEEN_INIT;
    struct bus_watch *w, *x;
    assert_int_equal(bus_watch(f->bus, "relay.*", on_nudge, &s, &w), PL_OK);
    assert_int_equal(bus_watch(f->bus, "relay", on_nudge, &exact, &x), PL_OK);
    bus_nudge(f->from, "relay.7");
    wait_for(&s, 1);
    assert_string_equal(s.last, "relay.7");
    bus_nudge(f->from, "relay");
    bus_nudge(f->from, "relay.");
    bus_nudge(f->from, "relays.7");
    bus_nudge(f->from, "relay.8.x");
    wait_for(&s, 2);
    wait_for(&exact, 1);
    bus_unwatch(w);
    bus_unwatch(x);
}

static void subjects_have_bounds(void **state)
{
    struct fixture *f = *state;
    struct bus_watch *w = NULL;
    struct bus_server *s = NULL;
    char longest[162];
    memset(longest, 'a', 161);
    longest[161] = 0;
    assert_int_equal(bus_watch(f->bus, longest, on_nudge, NULL, &w), PL_INVALID_REQUEST);
    assert_int_equal(bus_watch(f->bus, "", on_nudge, NULL, &w), PL_INVALID_REQUEST);
    assert_int_equal(bus_serve(f->bus, "hub.*", NULL, NULL, &s), PL_INVALID_REQUEST);
    static const char *const bad[] = { "hub a", "hub.a b", "hub\r\nPUB x 0", ".hub", "hub.", "hub..a", "hub.>", "*", ".*", "hub.*.a", "hub\xc3\xa9" };
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        struct pl_str got;
        assert_int_equal(bus_watch(f->bus, bad[i], on_nudge, NULL, &w), PL_INVALID_REQUEST);
        assert_int_equal(bus_serve(f->bus, bad[i], NULL, NULL, &s), PL_INVALID_REQUEST);
        bus_nudge(f->from, bad[i]);
        assert_int_equal(bus_ask(f->from, bad[i], PL_STR("x"), PL_SECOND, f->a, &got, NULL), PL_UNAVAILABLE);
    }
    longest[160] = 0;
    assert_int_equal(bus_watch(f->bus, longest, on_nudge, NULL, &w), PL_OK);
    bus_unwatch(w);
}

struct echo {
    const char *prefix;
    enum pl_err e;
};
static void on_ask(void *self, struct bus_ask *ask, struct pl_str bytes)
{
    struct echo *echo = self;
    char mem[128];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    pl_buf_fmt(&b, "%s%.*s", echo->prefix, PL_FMT(bytes));
    bus_answer(ask, echo->e, pl_buf_view(&b));
}
static enum pl_err ask(struct fixture *f, const char *subject, struct pl_str *ret) { return bus_ask(f->from, subject, PL_STR("hello"), PL_SECOND, f->a, ret, NULL); }

static bool connected(struct fixture *f)
{
    struct echo echo = { "", PL_OK };
    struct bus_server *s;
    struct pl_str got;
    if (bus_serve(f->bus, "setup", on_ask, &echo, &s) != PL_OK)
        return false;
    for (int tries = 0; ask(f, "setup", &got) != PL_OK; tries++) {
        if (tries == 1000)
            return false;
        poll(NULL, 0, 10);
    }
    bus_unserve(s);
    return true;
}

static void newest_server_answers_and_none_is_unavailable(void **state)
{
    struct fixture *f = *state;
    struct echo old = { "old ", PL_OK }, new = { "new ", PL_OK };
    struct bus_server *s1, *s2;
    struct pl_str got = PL_STR_NONE;
    assert_int_equal(ask(f, "hub.A", &got), PL_UNAVAILABLE);
    assert_null(got.p);
    assert_int_equal(bus_serve(f->bus, "hub.A", on_ask, &old, &s1), PL_OK);
    assert_int_equal(ask(f, "hub.A", &got), PL_OK);
    assert_true(pl_str_eqz(got, "old hello"));
    assert_int_equal(bus_serve(f->bus, "hub.A", on_ask, &new, &s2), PL_OK);
    assert_int_equal(ask(f, "hub.A", &got), PL_OK);
    assert_true(pl_str_eqz(got, "new hello"));
    bus_unserve(s1); /* the fenced connection goes later than the new one came */
    assert_int_equal(ask(f, "hub.A", &got), PL_OK);
    assert_true(pl_str_eqz(got, "new hello"));
    assert_null(bus_unserve(s2));
    assert_null(bus_unserve(NULL));
    assert_int_equal(ask(f, "hub.A", &got), PL_UNAVAILABLE);
}

static void errors_travel_and_outputs_stay(void **state)
{
    struct fixture *f = *state;
    struct echo full = { "", PL_NODE_FULL };
    struct bus_server *s;
    struct pl_str got = PL_STR("untouched");
    assert_int_equal(bus_serve(f->bus, "relay.1", on_ask, &full, &s), PL_OK);
    assert_int_equal(ask(f, "relay.1", &got), PL_NODE_FULL);
    assert_true(pl_str_eqz(got, "untouched"));
    bus_unserve(s);
}

static void large_messages_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct echo echo = { "", PL_OK };
    struct bus_server *s;
    struct pl_str got;
    static char big[64 * 1024 + 1];
    assert_int_equal(bus_serve(f->bus, "relay.1", on_ask, &echo, &s), PL_OK);
    assert_int_equal(bus_ask(f->from, "relay.1", (struct pl_str){ big, sizeof big }, PL_SECOND, f->a, &got, NULL), PL_INTERNAL);
    assert_int_equal(bus_ask(f->from, "relay.1", PL_STR("x"), 11 * PL_SECOND, f->a, &got, NULL), PL_INTERNAL);
    bus_unserve(s);
}

/* Keeps the question for a thread, or for after the deadline. */
static void on_keep(void *self, struct bus_ask *ask, struct pl_str bytes)
{
    (void)bytes;
    *(struct bus_ask **)self = ask;
    __atomic_store_n(&now_us, 5 * PL_SECOND, __ATOMIC_SEQ_CST); /* the deadline passes at once */
}
static void deadline_passes_and_a_late_answer_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct bus_ask *kept = NULL;
    struct bus_server *s;
    struct pl_str got = PL_STR("untouched");
    __atomic_store_n(&now_us, 0, __ATOMIC_SEQ_CST);
    assert_int_equal(bus_serve(f->bus, "hub.slow", on_keep, &kept, &s), PL_OK);
    assert_int_equal(bus_ask(f->from, "hub.slow", PL_STR("x"), 2 * PL_SECOND, f->a, &got, NULL), PL_TOO_SLOW);
    assert_non_null(kept);
    bus_answer(kept, PL_OK, PL_STR("too late"));
    assert_true(pl_str_eqz(got, "untouched"));
    bus_unserve(s);
}

static void *answer_later(void *ask)
{
    bus_answer(ask, PL_OK, PL_STR("from another thread"));
    return NULL;
}
static pthread_t later;
static void on_later(void *self, struct bus_ask *ask, struct pl_str bytes)
{
    (void)self, (void)bytes;
    assert_int_equal(pthread_create(&later, NULL, answer_later, ask), 0);
}
static void answers_come_from_any_thread(void **state)
{
    struct fixture *f = *state;
    struct bus_server *s;
    assert_int_equal(bus_serve(f->bus, "hub.B", on_later, NULL, &s), PL_OK);
    for (int i = 0; i < 200; i++) {
        struct pl_str got = PL_STR_NONE;
        pl_arena_reset(f->a);
        assert_int_equal(ask(f, "hub.B", &got), PL_OK);
        assert_true(pl_str_eqz(got, "from another thread"));
        pthread_join(later, NULL);
    }
    bus_unserve(s);
}

/* After bus_unwatch nothing runs: `self` is poisoned right after it, and a handler that still ran would see it. */
struct fragile {
    int alive; /* atomic */
    int broken; /* atomic */
};
static void on_fragile(void *self, const char *subject)
{
    struct fragile *s = self;
    (void)subject;
    if (!__atomic_load_n(&s->alive, __ATOMIC_SEQ_CST))
        __atomic_store_n(&s->broken, 1, __ATOMIC_SEQ_CST);
}
static int stop_nudging; /* atomic */
static void *nudge_much(void *bus)
{
    while (!__atomic_load_n(&stop_nudging, __ATOMIC_SEQ_CST))
        bus_nudge(bus, "facts");
    return NULL;
}
static void nothing_runs_after_unwatch(void **state)
{
    struct fixture *f = *state;
    pthread_t t;
    static struct fragile s[300];
    stop_nudging = 0;
    assert_int_equal(pthread_create(&t, NULL, nudge_much, f->from), 0);
    for (size_t i = 0; i < PL_COUNT(s); i++) {
        struct bus_watch *w;
        s[i] = (struct fragile){ .alive = 1 };
        assert_int_equal(bus_watch(f->bus, "facts", on_fragile, &s[i], &w), PL_OK);
        bus_unwatch(w);
        __atomic_store_n(&s[i].alive, 0, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&stop_nudging, 1, __ATOMIC_SEQ_CST);
    pthread_join(t, NULL);
    for (size_t i = 0; i < PL_COUNT(s); i++)
        assert_int_equal(s[i].broken, 0);
}

/* A handler may nudge and ask in its turn: the bus holds no lock while it runs. */
static void on_nudge_further(void *self, const char *subject)
{
    (void)subject;
    bus_nudge(self, "second");
}
static void handlers_may_use_the_bus(void **state)
{
    struct fixture *f = *state;
    struct seen s = SEEN_INIT;
    struct bus_watch *first, *second;
    assert_int_equal(bus_watch(f->bus, "first", on_nudge_further, f->bus, &first), PL_OK);
    assert_int_equal(bus_watch(f->bus, "second", on_nudge, &s, &second), PL_OK);
    bus_nudge(f->from, "first");
    wait_for(&s, 1);
    bus_unwatch(first);
    bus_unwatch(second);
}

/* Each allocation fails in turn, until there is none left to fail. */
static void no_memory_is_an_error_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct echo echo = { "", PL_OK };
    struct bus_server *s = NULL;
    struct bus_watch *w = NULL;
    struct pl_str got;
    struct bus *none = NULL;
    enum pl_err e;
    for (unsigned i = 1; pl_heap_fail_at(i), (e = maker->make(&none)) != PL_OK; i++)
        assert_true(e == PL_NO_MEMORY && !none);
    none = bus_free(none);
    for (unsigned i = 1; pl_heap_fail_at(i), (e = bus_watch(f->bus, "a", on_nudge, NULL, &w)) != PL_OK; i++)
        assert_true(e == PL_NO_MEMORY && !w);
    bus_unwatch(w);
    for (unsigned i = 1; pl_heap_fail_at(i), (e = bus_serve(f->bus, "b", on_ask, &echo, &s)) != PL_OK; i++)
        assert_true(e == PL_NO_MEMORY && !s);
    pl_heap_fail_at(0);
    unsigned tries = 1; /* the question, the answer's bytes; between nodes also what seals them, and who has none is as good as away */
    for (; pl_heap_fail_at(tries), (e = ask(f, "b", &got)) != PL_OK; tries++)
        assert_true(e == PL_NO_MEMORY || (maker->two && e == PL_UNAVAILABLE));
    assert_true(tries == 3 || (maker->two && tries > 3));
    pl_heap_fail_at(0);
    bus_unserve(s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nudge_reaches_every_watcher_of_the_subject_only, setup, teardown),
        cmocka_unit_test_setup_teardown(star_watches_all_below, setup, teardown),
        cmocka_unit_test_setup_teardown(subjects_have_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(newest_server_answers_and_none_is_unavailable, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_travel_and_outputs_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(large_messages_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(deadline_passes_and_a_late_answer_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_come_from_any_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_runs_after_unwatch, setup, teardown),
        cmocka_unit_test_setup_teardown(handlers_may_use_the_bus, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory_is_an_error_and_leaves_nothing, setup, teardown),
    };
    int bad = 0;
    if (secure_init() != PL_OK)
        return 1;
    nats_start(&nats);
    for (maker = makers; maker < makers + PL_COUNT(makers); maker++)
        bad += cmocka_run_group_tests_name(maker->name, tests, NULL, NULL);
    nats_kill(&nats);
    return bad;
}
