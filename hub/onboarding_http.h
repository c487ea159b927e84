/* onboarding_http.h - the listener of the leg in the home: libmicrohttpd for HTTP, and bounds around it.
 *
 * At most eight connections, four from one address, ten seconds each whatever they do, 8 KiB of head, 2 KiB of body: who only wants to be in the way gets no further.
 * It listens on one address, that of the temporary Wi-Fi, and only from open to close. One thread: the caller polls onboarding_http_fd and calls onboarding_http_run.
 * Not here: what is asked and who may (onboarding.h).
 *     e = onboarding_http_open(&(struct onboarding_http_conf){ .address = "192.168.75.1:80", .onboarding = o, .hub = h, .clock = clock, .log = log }, &http, &fail);
 *     if (readable(onboarding_http_fd(http)) || late(onboarding_http_due(http, now))) onboarding_http_run(http, now);
 */
#pragma once
#include "onboarding.h"

enum { ONBOARDING_ADDRESS = 64 };
struct onboarding_http_conf {
    const char *address; /**< digits and port: 192.168.75.1:80, [fe80::1]:80; port 0: any */
    struct onboarding *onboarding;
    struct hub *hub;
    const struct pl_clock *clock;
    const struct pl_log *log;
};
struct onboarding_http;
/* PL_INVALID_REQUEST: not one address and port; PL_IO: it cannot be listened on. */
PL_MUST enum pl_err onboarding_http_open(const struct onboarding_http_conf *conf, struct onboarding_http **ret, struct pl_fail *reterr);
int onboarding_http_fd(const struct onboarding_http *s);
/* When it wants to run though nothing came. */
struct pl_mono onboarding_http_due(const struct onboarding_http *s, struct pl_mono now);
void onboarding_http_run(struct onboarding_http *s, struct pl_mono now);
/* Where it listens, as Host must say it. */
const char *onboarding_http_where(const struct onboarding_http *s);
/* Takes NULL; returns NULL. */
struct onboarding_http *onboarding_http_close(struct onboarding_http *s);
