/* ctl_demo.h - the demo household: made once, over REST as an app would, and kept in DIR/demo.json.
 *
 * A maker's inventory of factory keys (hubs, cameras) is made in DIR and imported; then sign-up with both PINs (read as the operator reads them), a system, the
 * hub claimed over the leg in the home, a camera claimed through its hub. Every step is written down when it is done, so that a broken run goes on from there.
 * Its password is random and stands in demo.json (0600): there is no default account. Later commands find it again by what `up` wrote into up.json.
 * Threads: one.
 *     e = demo_open(c, &paths, &demo, reterr); e = demo_sign_up(&demo, &rest, reterr); … hub runs … e = demo_claim(&demo, &rest, reterr);
 */
#pragma once
#include "ctl_rest.h"
#include "ctl_file.h"

struct demo {
    struct ctl *c;
    const struct ctl_paths *paths;
    /* kept in demo.json */
    struct pl_str email, password, phone, hub_serial, camera_serial;
    struct pl_str account_id, client_id, refresh_token, system_id, hub_id, camera_id;
    const char *hub_onboarding; /**< where the running hub takes its claim, "127.0.0.1:…"; NULL: it does not */
};
/* Reads demo.json, or makes a new household's names and keys. */
PL_MUST enum pl_err demo_open(struct ctl *c, const struct ctl_paths *p, struct demo *ret, struct pl_fail *reterr);
/* The same without making one. PL_NOT_FOUND: there is none. */
PL_MUST enum pl_err demo_load(struct ctl *c, const struct ctl_paths *p, struct demo *ret, struct pl_fail *reterr);
PL_MUST enum pl_err demo_save(const struct demo *d, struct pl_fail *reterr);
static inline bool demo_signed_up(const struct demo *d) { return d->refresh_token.n > 0; }
static inline bool demo_complete(const struct demo *d) { return d->camera_id.n > 0; }

/* Brings the inventory to the server. */
PL_MUST enum pl_err demo_import(struct demo *d, struct pl_fail *reterr);
/* Makes the account. Needs a server that hands messages to the outbox only. */
PL_MUST enum pl_err demo_sign_up(struct demo *d, struct rest *r, struct pl_fail *reterr);
/* Signs in: by the kept refresh token, else by password and PIN. Sets r->token. */
PL_MUST enum pl_err demo_sign_in(struct demo *d, struct rest *r, struct pl_fail *reterr);
/* System, hub, camera: what is not there yet. The hub runs and r is signed in. */
PL_MUST enum pl_err demo_claim(struct demo *d, struct rest *r, struct pl_fail *reterr);

/* A household whose `up` runs, for who comes to it later. */
struct demo_there {
    struct ctl_paths paths;
    struct demo demo;
    struct rest rest;        /**< not signed in; `pause` is the caller's to set */
    struct pl_str media;     /**< "192.0.2.7:50000" */
    struct pl_str page_port; /**< up --page */
};
/* Paths in `ret` are pointed at: it stays where it is. PL_UNAVAILABLE: nothing runs in c->dir; PL_NOT_FOUND: it was not started with --demo. */
PL_MUST enum pl_err demo_find(struct ctl *c, struct demo_there *ret, struct pl_fail *reterr);

/* What REST is told, `http.allowed_origins`: whom the settings of `up` name, and the page of the demo. */
PL_MUST enum pl_err demo_origins(const struct ctl *c, struct pl_str *ret, struct pl_fail *reterr);

/* The page of docs/app-developers-live.md. */
extern const struct pl_str ctl_page_html;

/* The factory key file of a serial. */
const char *demo_key_file(const struct demo *d, struct pl_str serial);
