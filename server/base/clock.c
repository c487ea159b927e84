#include "clock.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef PL_TEST_CLOCK
static const volatile int64_t *test_page; /* microseconds to add; written by the test, read by us */
static int64_t test_offset(void) { return test_page ? __atomic_load_n(test_page, __ATOMIC_RELAXED) : 0; }

enum pl_err pl_test_clock_map(const char *path, struct pl_fail *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pl_fail(reterr, PL_IO, "the test clock %s cannot be opened: %m", path);
    void *p = lseek(fd, 0, SEEK_END) >= (off_t)sizeof(int64_t) ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (p == MAP_FAILED)
        return pl_fail(reterr, PL_IO, "the test clock %s is not a page of at least 8 bytes", path);
    test_page = p;
    return PL_OK;
}
#else
static int64_t test_offset(void) { return 0; }

enum pl_err pl_test_clock_map(const char *path, struct pl_fail *reterr)
{
    return pl_fail(reterr, PL_INVALID_REQUEST, "this build has no test clock: %s is refused", path);
}
#endif

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * PL_SECOND + t.tv_nsec / 1000 + test_offset();
}

static struct pl_mono system_mono(const struct pl_clock *self)
{
    (void)self;
    return (struct pl_mono){ read_clock(CLOCK_MONOTONIC) };
}
static struct pl_utc system_utc(const struct pl_clock *self)
{
    (void)self;
    return (struct pl_utc){ read_clock(CLOCK_REALTIME) };
}
const struct pl_clock pl_clock_system = { system_mono, system_utc };

static struct pl_mono fixed_mono(const struct pl_clock *self) { return ((const struct pl_clock_fixed *)self)->mono; }
static struct pl_utc fixed_utc(const struct pl_clock *self) { return ((const struct pl_clock_fixed *)self)->utc; }

void pl_clock_fixed_init(struct pl_clock_fixed *c, int64_t utc_us)
{
    *c = (struct pl_clock_fixed){ { fixed_mono, fixed_utc }, { PL_SECOND }, { utc_us } };
}
void pl_clock_fixed_advance(struct pl_clock_fixed *c, int64_t us)
{
    c->mono.us += us;
    c->utc.us += us;
}

void pl_utc_text(struct pl_utc t, char out[PL_UTC_TEXT])
{
    int64_t ms = t.us / 1000 - (t.us % 1000 < 0);
    int64_t s = ms / 1000 - (ms % 1000 < 0);
    time_t secs = (time_t)s;
    struct tm tm;
    gmtime_r(&secs, &tm);
    size_t n = strftime(out, PL_UTC_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, PL_UTC_TEXT - n, ".%03dZ", (int)(ms - s * 1000));
}

static bool digits(struct pl_str s, size_t at, size_t n, unsigned hi, unsigned *ret)
{
    return pl_parse_u32((struct pl_str){ s.p + at, n }, 0, hi, ret) == PL_OK;
}

enum pl_err pl_utc_parse(struct pl_str s, struct pl_utc *ret)
{
    unsigned y, mo, d, h, mi, sec;
    if (s.n < 20 || s.n > 27 || s.p[s.n - 1] != 'Z' || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' || s.p[13] != ':' || s.p[16] != ':')
        return PL_INVALID_REQUEST;
    if (!digits(s, 0, 4, 9999, &y) || !digits(s, 5, 2, 12, &mo) || !digits(s, 8, 2, 31, &d) || !digits(s, 11, 2, 23, &h) || !digits(s, 14, 2, 59, &mi) ||
        !digits(s, 17, 2, 60, &sec) || mo == 0 || d == 0)
        return PL_INVALID_REQUEST;
    uint64_t frac = 0;
    if (s.n > 20) {
        size_t n = s.n - 21;
        if (s.p[19] != '.' || pl_parse_u64((struct pl_str){ s.p + 20, n }, 0, 999999, &frac) != PL_OK)
            return PL_INVALID_REQUEST;
        for (size_t i = n; i < 6; i++)
            frac *= 10;
    }
    struct tm tm = { .tm_year = (int)y - 1900, .tm_mon = (int)mo - 1, .tm_mday = (int)d, .tm_hour = (int)h, .tm_min = (int)mi, .tm_sec = (int)sec };
    time_t t = timegm(&tm);
    if (tm.tm_mday != (int)d) /* 31 February was normalised away */
        return PL_INVALID_REQUEST;
    ret->us = (int64_t)t * PL_SECOND + (int64_t)frac;
    return PL_OK;
}
