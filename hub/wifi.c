#include "wifi.h"
#include "secure.h"
#include <sys/eventfd.h>
#include <unistd.h>

const char *const wifi_security_words[] = { "open", "wpa2", "wpa3", NULL };
const char *const wifi_end_words[] = { "joined", "wrong_password", "not_found", "not_2_4ghz", "no_dhcp", "no_internet", NULL };

enum job { JOB_NONE, JOB_SCAN, JOB_JOIN, JOB_END };
struct wifi {
    struct wifi_driver *driver;
    pthread_t thread;
    int done_fd; /**< eventfd: `done` is there */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum job job;          /* LOCK: lock; JOB_NONE: idle, or at work */
    bool busy, has_done;   /* LOCK: lock */
    struct wifi_done done; /* LOCK: lock */
    char ssid[WIFI_SSID + 1], password[WIFI_PASSWORD + 1]; /* LOCK: lock, while a job waits; then the thread's */
};

static void work(struct wifi *w, enum job job, struct wifi_done *done)
{
    done->tried = job == JOB_JOIN;
    if (job == JOB_SCAN)
        done->e = w->driver->scan(w->driver, &done->list);
    else
        done->end = w->driver->join(w->driver, pl_str_of(w->ssid), pl_str_of(w->password));
    secure_wipe(w->password, sizeof w->password);
}

static void *run(void *arg)
{
    struct wifi *w = arg;
    for (;;) {
        struct wifi_done done = { .e = PL_OK };
        enum job job;
        {
            PL_LOCK(&w->lock);
            while (w->job == JOB_NONE)
                pthread_cond_wait(&w->changed, &w->lock);
            job = w->job;
            w->job = JOB_NONE;
        }
        if (job == JOB_END)
            return NULL;
        work(w, job, &done);
        PL_LOCK(&w->lock);
        w->done = done;
        w->has_done = true;
        (void)eventfd_write(w->done_fd, 1);
    }
}

enum pl_err wifi_new(struct wifi_driver *driver, struct wifi **ret)
{
    struct wifi *w = pl_heap(sizeof *w);
    if (!w) {
        driver->close(driver);
        return PL_NO_MEMORY;
    }
    w->driver = driver;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->done_fd < 0 || pthread_create(&w->thread, NULL, run, w) != 0) {
        if (w->done_fd >= 0)
            close(w->done_fd);
        driver->close(driver);
        pl_heap_free(w);
        return PL_NO_MEMORY;
    }
    *ret = w;
    return PL_OK;
}

int wifi_fd(const struct wifi *w) { return w->done_fd; }

/* LOCK: w->lock. */
static enum pl_err give(struct wifi *w, enum job job)
{
    w->job = job;
    w->busy = true;
    pthread_cond_signal(&w->changed);
    return PL_OK;
}

enum pl_err wifi_scan(struct wifi *w)
{
    PL_LOCK(&w->lock);
    return w->busy ? PL_RETRY : give(w, JOB_SCAN);
}

enum pl_err wifi_join(struct wifi *w, struct pl_str ssid, struct pl_str password)
{
    if (ssid.n == 0 || ssid.n > WIFI_SSID || password.n > WIFI_PASSWORD || (password.n && password.n < 8))
        return PL_INVALID_REQUEST;
    PL_LOCK(&w->lock);
    if (w->busy)
        return PL_RETRY;
    memset(w->ssid, 0, sizeof w->ssid);
    memset(w->password, 0, sizeof w->password);
    memcpy(w->ssid, ssid.p, ssid.n);
    if (password.n)
        memcpy(w->password, password.p, password.n);
    return give(w, JOB_JOIN);
}

bool wifi_take(struct wifi *w, struct wifi_done *ret)
{
    eventfd_t woken;
    (void)eventfd_read(w->done_fd, &woken);
    PL_LOCK(&w->lock);
    if (!w->has_done)
        return false;
    *ret = w->done;
    w->has_done = w->busy = false;
    return true;
}

struct wifi *wifi_free(struct wifi *w)
{
    if (!w)
        return NULL;
    {
        PL_LOCK(&w->lock);
        w->job = JOB_END;
        pthread_cond_signal(&w->changed);
    }
    pthread_join(w->thread, NULL);
    w->driver->close(w->driver);
    close(w->done_fd);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    secure_wipe(w, sizeof *w);
    return pl_heap_free(w);
}
