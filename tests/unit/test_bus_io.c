/* The bus on NATS between nodes: who is asked, what is sealed, and a NATS that goes away. The contract itself stands in test_bus.c. */
#include "bus.h"
#include "nats_server.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sys/syscall.h>
#include <time.h>

static struct nats_server nats;
static const struct pl_secret ours = { { 1, 2, 3 } }, theirs = { { 4, 5, 6 } };
static const struct pl_log nothing;

static struct bus *node(const struct pl_secret *master)
{
    struct bus *b = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = bus_nats_new(
        &(struct bus_nats_conf){ .url = nats.url, .token = NATS_TOKEN, .master = master, .clock = &pl_clock_system, .rand = &pl_rand_system, .log = &nothing }, &b, &fail);
    if (e != PL_OK)
        fail_msg("%s", fail.detail);
    return b;
}

static void on_ask(void *self, struct bus_ask *ask, struct pl_str bytes)
{
    (void)bytes;
    bus_answer(ask, PL_OK, pl_str_of(self));
}
static struct bus_server *serve(struct bus *b, const char *subject, const char *name)
{
    struct bus_server *s;
    assert_int_equal(bus_serve(b, subject, on_ask, (void *)(uintptr_t)name, &s), PL_OK);
    return s;
}
static enum pl_err ask(struct bus *b, const char *subject, char *answer, size_t cap)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(65536);
    struct pl_str got = PL_STR("");
    enum pl_err e = a ? bus_ask(b, subject, PL_STR("?"), 2 * PL_SECOND, a, &got, NULL) : PL_NO_MEMORY;
    snprintf(answer, cap, "%.*s", PL_FMT(got));
    return e;
}
/* Asks until the answer is this one: the nodes learn of each other in their own time. */
static void answers(struct bus *b, const char *subject, enum pl_err want, const char *name)
{
    char got[32];
    enum pl_err e = PL_OK;
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), 30 * PL_SECOND);
    while (pl_mono_sub(end, pl_now_mono(&pl_clock_system)) > 0) {
        e = ask(b, subject, got, sizeof got);
        if (e == want && (e != PL_OK || strcmp(got, name) == 0))
            return;
        poll(NULL, 0, 10);
    }
    fail_msg("%s: wanted %s %s, got %s %s", subject, pl_err_code(want), name, pl_err_code(e), got);
}

struct seen {
    pthread_mutex_t lock;
    int count;
};
static void on_nudge(void *self, const char *subject)
{
    struct seen *s = self;
    (void)subject;
    PL_LOCK(&s->lock);
    s->count++;
}
static int seen(struct seen *s)
{
    PL_LOCK(&s->lock);
    return s->count;
}
static void at_least(struct seen *s, int count)
{
    for (int tries = 0; seen(s) < count; tries++) {
        assert_true(tries < 1000);
        poll(NULL, 0, 10);
    }
}

static void the_newest_server_of_all_nodes_is_asked(void **state)
{
    struct bus *a = node(&ours), *b = node(&ours), *c = node(&ours);
    (void)state;
    struct bus_server *on_a = serve(a, "hub.X", "a"), *probe = serve(b, "probe", "b");
    answers(c, "hub.X", PL_OK, "a");
    answers(c, "probe", PL_OK, "b");
    answers(a, "probe", PL_OK, "b"); /* all three hear each other now */
    struct bus_server *on_b = serve(b, "hub.X", "b");
    answers(c, "hub.X", PL_OK, "b");
    answers(a, "hub.X", PL_OK, "b"); /* also where the older one is */
    char got[32];
    for (int i = 0; i < 50; i++) { /* and it stays so */
        assert_int_equal(ask(i % 2 ? a : c, "hub.X", got, sizeof got), PL_OK);
        assert_string_equal(got, "b");
    }
    on_b = bus_unserve(on_b);
    answers(c, "hub.X", PL_OK, "a");
    on_b = serve(b, "hub.X", "b again");
    answers(c, "hub.X", PL_OK, "b again");
    bus_unserve(on_a); /* the fenced connection goes later than the new one came */
    answers(a, "hub.X", PL_OK, "b again");
    bus_unserve(on_b);
    answers(a, "hub.X", PL_UNAVAILABLE, "");
    bus_unserve(probe);
    bus_free(c);
    bus_free(b);
    bus_free(a);
}

static void a_node_with_another_master_key_hears_and_says_nothing(void **state)
{
    struct bus *a = node(&ours), *b = node(&ours), *stranger = node(&theirs);
    char got[32];
    (void)state;
    struct bus_server *s = serve(a, "hub.X", "a"), *t = serve(stranger, "hub.Y", "stranger"), *u = serve(b, "probe", "b");
    answers(a, "probe", PL_OK, "b");
    answers(b, "hub.X", PL_OK, "a");
    assert_int_not_equal(ask(stranger, "hub.X", got, sizeof got), PL_OK);
    assert_int_not_equal(ask(b, "hub.Y", got, sizeof got), PL_OK);
    struct bus_server *over = serve(stranger, "hub.X", "stranger"); /* its word does not make an older one step back */
    answers(b, "hub.X", PL_OK, "a");
    assert_int_equal(ask(a, "hub.X", got, sizeof got), PL_OK);
    assert_string_equal(got, "a");
    bus_unserve(over);
    bus_unserve(u);
    bus_unserve(t);
    bus_unserve(s);
    bus_free(stranger);
    bus_free(b);
    bus_free(a);
}

/* Reads what one client of NATS sees of everything, until it has seen `last`. */
static size_t overhear(int fd, char *text, size_t cap, const char *last)
{
    size_t n = 0;
    while (n + 1 < cap && !memmem(text, n, last, strlen(last))) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 20000), 1);
        ssize_t got = read(fd, text + n, cap - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
    }
    return n;
}
static int eavesdrop(void)
{
    static const char hello[] = "CONNECT {\"verbose\":false,\"auth_token\":\"" NATS_TOKEN "\",\"headers\":true}\r\nSUB > 1\r\nPING\r\n";
    struct sockaddr_in sa;
    char text[4096];
    int fd = nats_socket(nats.port, &sa);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(write(fd, hello, sizeof hello - 1), sizeof hello - 1);
    overhear(fd, text, sizeof text, "PONG");
    return fd;
}

static void keys_are_sealed_on_the_way(void **state)
{
    struct bus *a = node(&ours), *b = node(&ours);
    static char text[1 << 16];
    (void)state;
    struct bus_server *s = serve(a, "hub.X", "answer-with-keys");
    answers(b, "hub.X", PL_OK, "answer-with-keys");
    int fd = eavesdrop();
    struct pl_arena *arena = pl_arena_new(65536);
    struct pl_str got;
    assert_int_equal(bus_ask(b, "hub.X", PL_STR("question-with-keys"), PL_SECOND, arena, &got, NULL), PL_OK);
    assert_true(pl_str_eqz(got, "answer-with-keys"));
    bus_nudge(b, "the.end");
    size_t n = overhear(fd, text, sizeof text, "the.end");
    assert_non_null(memmem(text, n, "porchlight.a.hub.X", 18)); /* it did go this way */
    assert_non_null(memmem(text, n, "porchlight.r.", 13));
    assert_null(memmem(text, n, "with-keys", 9));
    close(fd);
    pl_arena_free(arena);
    bus_unserve(s);
    bus_free(b);
    bus_free(a);
}

static void nats_away_loses_nudges_only_until_it_is_back(void **state)
{
    struct bus *a = node(&ours), *b = node(&ours);
    struct seen far = { PTHREAD_MUTEX_INITIALIZER, 0 }, near = { PTHREAD_MUTEX_INITIALIZER, 0 }, later = { PTHREAD_MUTEX_INITIALIZER, 0 };
    struct bus_watch *w, *v, *z;
    (void)state;
    struct bus_server *s = serve(a, "hub.X", "a"), *here = serve(b, "hub.Y", "b");
    assert_int_equal(bus_watch(a, "account.1", on_nudge, &far, &w), PL_OK);
    assert_int_equal(bus_watch(b, "account.*", on_nudge, &near, &v), PL_OK);
    answers(b, "hub.X", PL_OK, "a");
    answers(a, "hub.Y", PL_OK, "b");
    bus_nudge(b, "account.1");
    at_least(&far, 1);
    nats_kill(&nats);
    answers(b, "hub.X", PL_UNAVAILABLE, "");
    answers(b, "hub.Y", PL_OK, "b"); /* what is in this process goes on */
    int before = seen(&near);
    bus_nudge(b, "account.1"); /* lost for a, not for b */
    assert_int_equal(seen(&near), before + 1);
    assert_int_equal(bus_watch(a, "account.2", on_nudge, &later, &z), PL_OK); /* while it is away */
    struct bus_server *new = serve(a, "hub.Z", "a");
    int far_before = seen(&far), near_before = seen(&near), later_before = seen(&later);
    nats_start(&nats);
    at_least(&far, far_before + 1); /* nobody nudges: everybody looks, because something may have been lost */
    at_least(&near, near_before + 1);
    at_least(&later, later_before + 1);
    answers(b, "hub.X", PL_OK, "a");
    answers(b, "hub.Z", PL_OK, "a");
    later_before = seen(&later);
    bus_nudge(b, "account.2");
    at_least(&later, later_before + 1);
    bus_unserve(new);
    bus_unwatch(z);
    bus_unwatch(v);
    bus_unwatch(w);
    bus_unserve(here);
    bus_unserve(s);
    bus_free(b);
    bus_free(a);
}

static void *ask_slowly(void *arg)
{
    char got[32];
    return (void *)(uintptr_t)ask(arg, "hub.slow", got, sizeof got);
}
static struct bus_ask *kept; /* atomic */
static void on_keep(void *self, struct bus_ask *q, struct pl_str bytes)
{
    (void)self, (void)bytes;
    __atomic_store_n(&kept, q, __ATOMIC_SEQ_CST);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool reached, open;
};
static void on_gate(void *self, const char *subject)
{
    struct gate *g = self;
    (void)subject;
    PL_LOCK(&g->lock);
    g->reached = true;
    pthread_cond_broadcast(&g->moved);
    while (!g->open)
        pthread_cond_wait(&g->moved, &g->lock);
}

/* A node that stepped back is still subscribed for a moment, here for as long as its keeper is held up: it must not say that nobody is there. */
static void who_stepped_back_leaves_the_answer_to_the_newer(void **state)
{
    static const char look[] = "PUB porchlight.look 0\r\n\r\n";
    struct bus *a = node(&ours), *b = node(&ours), *c = node(&ours);
    struct gate gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };
    struct bus_watch *w;
    char got[32];
    (void)state;
    struct bus_server *on_a = serve(a, "hub.X", "a");
    answers(b, "hub.X", PL_OK, "a");
    answers(c, "hub.X", PL_OK, "a");
    assert_int_equal(bus_watch(a, "gate", on_gate, &gate, &w), PL_OK);
    int fd = eavesdrop();
    assert_int_equal(write(fd, look, sizeof look - 1), sizeof look - 1);
    pthread_mutex_lock(&gate.lock);
    while (!gate.reached)
        pthread_cond_wait(&gate.moved, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    struct bus_server *on_b = serve(b, "hub.X", "b");
    answers(a, "hub.X", PL_OK, "b"); /* it has stepped back */
    for (int i = 0; i < 50; i++) {
        assert_int_equal(ask(c, "hub.X", got, sizeof got), PL_OK);
        assert_string_equal(got, "b");
    }
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.moved);
    pthread_mutex_unlock(&gate.lock);
    close(fd);
    bus_unwatch(w);
    bus_unserve(on_b);
    answers(c, "hub.X", PL_OK, "a"); /* and comes again */
    bus_unserve(on_a);
    bus_free(c);
    bus_free(b);
    bus_free(a);
}

struct ending {
    struct bus *bus;
    pid_t tid; /* atomic */
};
static void *free_it(void *arg)
{
    struct ending *end = arg;
    __atomic_store_n(&end->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    return bus_free(end->bus);
}

/* Asleep: in the middle of bus_free there is only the keeper to wait for. */
static bool sleeps(pid_t tid)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    bool got = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    const char *end = strrchr(line, ')');
    return got && end && end[1] == ' ' && end[2] == 'S';
}

/* Its reading thread waits for a subscription that the keeper, who is at its end, does not make any more: whoever frees the bus would wait for both. */
static void the_end_of_a_bus_wakes_who_waits(void **state)
{
    static const char look[] = "PUB porchlight.look 0\r\n\r\n";
    struct bus *a = node(&ours), *b = node(&ours);
    struct gate gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };
    struct bus_watch *w;
    struct ending end = { .bus = a };
    (void)state;
    struct bus_server *on_a = serve(a, "hub.X", "a"), *on_b;
    answers(b, "hub.X", PL_OK, "a");
    on_b = serve(b, "hub.X", "b");
    answers(a, "hub.X", PL_OK, "b"); /* a has stepped back */
    assert_int_equal(bus_watch(a, "gate", on_gate, &gate, &w), PL_OK);
    int fd = eavesdrop();
    assert_int_equal(write(fd, look, sizeof look - 1), sizeof look - 1);
    pthread_mutex_lock(&gate.lock);
    while (!gate.reached)
        pthread_cond_wait(&gate.moved, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    bus_unserve(on_b);
    answers(a, "hub.X", PL_OK, "a"); /* a serves again, and its reading thread waits until the others know */
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, free_it, &end), 0);
    for (int seen = 0, tries = 0; seen < 5; tries++) {
        pid_t tid = __atomic_load_n(&end.tid, __ATOMIC_SEQ_CST);
        assert_true(tries < 1000);
        seen = tid && sleeps(tid) ? seen + 1 : 0;
        poll(NULL, 0, 2);
    }
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.moved);
    pthread_mutex_unlock(&gate.lock);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    assert_int_equal(pthread_timedjoin_np(t, NULL, &until), 0);
    close(fd);
    pl_heap_free(w); /* it was in them that the bus ended */
    pl_heap_free(on_a);
    bus_free(b);
}

static void a_question_under_way_ends_when_nats_goes(void **state)
{
    struct bus *a = node(&ours), *b = node(&ours);
    struct bus_server *s, *probe = serve(a, "probe", "a");
    pthread_t t;
    void *e;
    (void)state;
    assert_int_equal(bus_serve(a, "hub.slow", on_keep, NULL, &s), PL_OK);
    answers(b, "probe", PL_OK, "a");
    assert_int_equal(pthread_create(&t, NULL, ask_slowly, b), 0);
    for (int tries = 0; !__atomic_load_n(&kept, __ATOMIC_SEQ_CST); tries++) {
        assert_true(tries < 1000);
        poll(NULL, 0, 10);
    }
    nats_kill(&nats);
    pthread_join(t, &e);
    assert_int_equal((uintptr_t)e, PL_UNAVAILABLE);
    bus_unserve(s);
    bus_unserve(probe);
    bus_answer(kept, PL_OK, PL_STR("nobody waits")); /* it must still be answered, and goes nowhere */
    bus_free(b);
    bus_free(a);
    nats_start(&nats);
}

static void a_node_may_start_before_nats(void **state)
{
    (void)state;
    nats_kill(&nats);
    struct bus *a = node(&ours), *b = node(&ours);
    struct bus_server *s = serve(a, "hub.X", "a");
    char got[32];
    assert_int_equal(ask(b, "hub.X", got, sizeof got), PL_UNAVAILABLE);
    nats_start(&nats);
    answers(b, "hub.X", PL_OK, "a");
    bus_unserve(s);
    bus_free(b);
    bus_free(a);
}

static void a_refused_token_is_tried_again_and_a_bad_url_is_said(void **state)
{
    struct bus *b = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    (void)state;
    struct bus_nats_conf conf = { .url = nats.url, .token = "wrong", .master = &ours, .clock = &pl_clock_system, .rand = &pl_rand_system, .log = &nothing };
    assert_int_equal(bus_nats_new(&conf, &b, &fail), PL_OK);
    struct bus_server *s = serve(b, "hub.X", "b");
    nats_kill(&nats);
    nats_start_with(&nats, "wrong"); /* the operator puts it right there */
    struct bus *a = NULL;
    assert_int_equal(bus_nats_new(&conf, &a, &fail), PL_OK);
    answers(a, "hub.X", PL_OK, "b");
    bus_unserve(s);
    a = bus_free(a);
    b = bus_free(b);
    conf.url = "";
    assert_int_equal(bus_nats_new(&conf, &b, &fail), PL_UNAVAILABLE);
    assert_non_null(strstr(fail.detail, "bus.nats_url"));
    assert_null(b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_server_of_all_nodes_is_asked),
        cmocka_unit_test(a_node_with_another_master_key_hears_and_says_nothing),
        cmocka_unit_test(keys_are_sealed_on_the_way),
        cmocka_unit_test(nats_away_loses_nudges_only_until_it_is_back),
        cmocka_unit_test(who_stepped_back_leaves_the_answer_to_the_newer),
        cmocka_unit_test(the_end_of_a_bus_wakes_who_waits),
        cmocka_unit_test(a_question_under_way_ends_when_nats_goes),
        cmocka_unit_test(a_node_may_start_before_nats),
        cmocka_unit_test(a_refused_token_is_tried_again_and_a_bad_url_is_said),
    };
    if (secure_init() != PL_OK)
        return 1;
    nats_start(&nats);
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    nats_kill(&nats);
    return bad;
}
