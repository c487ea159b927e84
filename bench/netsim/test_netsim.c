/* The bad network's own test, on a clock of its own: what a profile says is what packets meet, exactly where it is exact, within what chance allows where it is not. */
#include "link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct link l;

static struct pl_mono at(int64_t us) { return (struct pl_mono){ PL_SECOND + us }; }

/* Sends one packet each `every` microseconds; calls back with each fate. */
struct seen {
    unsigned fates[LINK_FATES], out_of_order;
    int64_t shortest, longest; /* delay */
    struct pl_mono last;
};
static struct seen send_many(unsigned n, int64_t every, size_t bytes)
{
    struct seen s = { .shortest = INT64_MAX };
    for (unsigned i = 0; i < n; i++) {
        struct pl_mono due;
        enum link_fate f = link_take(&l, at(i * every), bytes, &due);
        s.fates[f]++;
        if (f != LINK_PASSES)
            continue;
        int64_t delay = pl_mono_sub(due, at(i * every));
        s.shortest = delay < s.shortest ? delay : s.shortest;
        s.longest = delay > s.longest ? delay : s.longest;
        if (pl_mono_cmp(due, s.last) < 0)
            s.out_of_order++;
        else
            s.last = due;
    }
    return s;
}

static void nothing_is_nothing(void **state)
{
    (void)state;
    link_init(&l, &(struct link_profile){ .queue = 100 }, 1);
    struct seen s = send_many(10000, 10, 1200);
    assert_int_equal(s.fates[LINK_PASSES], 10000);
    assert_true(s.shortest == 0 && s.longest == 0 && s.out_of_order == 0);
}

static void delay_and_jitter(void **state)
{
    (void)state;
    link_init(&l, &(struct link_profile){ .queue = 100, .delay_us = 40000 }, 1);
    struct seen s = send_many(1000, 1000, 1200);
    assert_true(s.shortest == 40000 && s.longest == 40000);
    link_init(&l, &(struct link_profile){ .queue = 100, .delay_us = 40000, .jitter_us = 20000 }, 1);
    s = send_many(10000, 50000, 1200); /* far apart: no packet waits for the one before */
    assert_true(s.shortest >= 20000 && s.shortest < 20100 && s.longest <= 60000 && s.longest > 59900);
    link_init(&l, &(struct link_profile){ .queue = 100, .delay_us = 40000, .jitter_us = 20000 }, 1);
    s = send_many(10000, 100, 1200); /* close together: in order all the same */
    assert_int_equal(s.out_of_order, 0);
    assert_true(s.longest <= 60000);
}

/* 5 % of 100,000: the standard deviation is 69. */
static void loss(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        link_init(&l, &(struct link_profile){ .queue = 100, .loss_ppm = 50000 }, seed);
        struct seen s = send_many(100000, 100, 1200);
        assert_in_range(s.fates[LINK_LOST], 5000 - 280, 5000 + 280);
        assert_int_equal(s.fates[LINK_LOST] + s.fates[LINK_PASSES], 100000);
        assert_int_equal(l.fates[LINK_LOST], s.fates[LINK_LOST]);
    }
}

static void reordering(void **state)
{
    (void)state;
    link_init(&l, &(struct link_profile){ .queue = 100, .delay_us = 10000, .reorder_ppm = 10000, .reorder_us = 5000 }, 3);
    struct seen s = send_many(100000, 1000, 1200);
    assert_in_range(l.reordered, 1000 - 130, 1000 + 130);
    assert_int_equal(s.longest, 15000);
    assert_in_range(s.out_of_order, l.reordered * 38 / 10, l.reordered * 4); /* the four that follow within 5 ms come before a late one */
}

/* 1,250 bytes at 1,000 kbit/s take 10 ms each. */
static void rate_and_queue(void **state)
{
    (void)state;
    struct pl_mono due;
    link_init(&l, &(struct link_profile){ .queue = 8, .rate_kbit = 1000, .delay_us = 3000 }, 1);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(link_take(&l, at(0), 1250, &due), LINK_PASSES);
        assert_int_equal(pl_mono_sub(due, at(0)), (i + 1) * 10000 + 3000);
    }
    assert_int_equal(link_take(&l, at(0), 1250, &due), LINK_QUEUE_FULL);
    assert_int_equal(link_take(&l, at(9999), 1250, &due), LINK_QUEUE_FULL);
    assert_int_equal(link_take(&l, at(10000), 1250, &due), LINK_PASSES); /* the first has left */
    assert_int_equal(pl_mono_sub(due, at(0)), 93000);
    link_init(&l, &(struct link_profile){ .queue = 100, .rate_kbit = 3000 }, 1);
    struct seen s = send_many(20000, 1000, 1250); /* offered 10 Mbit/s for 20 s */
    assert_in_range(l.bytes * 8 / 1000, 3000 * 20, 3000 * 20 + 1100); /* and what waits at the end */
    assert_true(s.fates[LINK_QUEUE_FULL] > 0 && s.longest <= 100 * 1250 * 8000 / 3000);
}

static void cut(void **state)
{
    (void)state;
    struct pl_mono due;
    link_init(&l, &(struct link_profile){ .queue = 100 }, 1);
    l.cut = true;
    assert_int_equal(link_take(&l, at(0), 100, &due), LINK_CUT);
    l.cut = false;
    assert_int_equal(link_take(&l, at(0), 100, &due), LINK_PASSES);
}

/* The same seed and packets: the same fate. A profile that changes one thing changes only that. */
static void repeatable(void **state)
{
    (void)state;
    static bool lost[20000];
    struct link_profile p = { .queue = 100, .delay_us = 50000, .jitter_us = 5000, .loss_ppm = 50000 };
    struct pl_mono due;
    unsigned other = 0;
    link_init(&l, &p, 7);
    for (int i = 0; i < 20000; i++)
        lost[i] = link_take(&l, at(i * 100), 1200, &due) == LINK_LOST;
    p.delay_us = 10000;
    p.jitter_us = 0;
    link_init(&l, &p, 7);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(link_take(&l, at(i * 100), 1200, &due) == LINK_LOST, lost[i]);
    link_init(&l, &p, 8);
    for (int i = 0; i < 20000; i++)
        other += (link_take(&l, at(i * 100), 1200, &due) == LINK_LOST) != lost[i];
    assert_true(other > 1000);
}

/* The files say what media.md says of them. */
static void profiles(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct link_profile p;
    } rows[] = {
        { "N50", { .delay_us = 25000, .loss_ppm = 1000, .rate_kbit = 20000 } },
        { "M80", { .delay_us = 40000, .jitter_us = 20000, .loss_ppm = 20000, .rate_kbit = 3000 } },
        { "L100", { .delay_us = 50000, .loss_ppm = 50000 } },
    };
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_arena *a = pl_arena_new(1 << 20);
        struct link_profile p;
        struct pl_fail fail = PL_FAIL_INIT;
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", PROFILES, rows[i].name);
        assert_int_equal(conf_load(link_profile_rows, &p, path, a, &fail), PL_OK);
        assert_true(p.delay_us == rows[i].p.delay_us && p.jitter_us == rows[i].p.jitter_us && p.loss_ppm == rows[i].p.loss_ppm && p.rate_kbit == rows[i].p.rate_kbit);
        pl_arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nothing_is_nothing), cmocka_unit_test(delay_and_jitter), cmocka_unit_test(loss), cmocka_unit_test(reordering),
                                        cmocka_unit_test(rate_and_queue), cmocka_unit_test(cut), cmocka_unit_test(repeatable), cmocka_unit_test(profiles) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
