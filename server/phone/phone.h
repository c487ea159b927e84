/* phone.h - all of libphonenumber: what a phone number is, its normal form, its country and kind. The only C++ of the server, behind a C door.
 *
 * A number has one normal form (E.164), so that it has one account: "+43 (0)664 1234567" and "0664/1234567" typed in Austria are +436641234567. S-F5: numbers that
 * cost whoever calls them, or whose owner earns by it (premium, shared cost), and those that are no person's (pagers, voice mail, company lines) take no PIN.
 * Not here: which countries are served (account.h), sending (notify.h).
 * Threads: any, after the first call has returned (node makes it at the start: phone_warm).  Memory: the caller's.
 *     e = phone_parse(PL_STR("0664 1234567"), "AT", &number);
 */
#pragma once
#include "str.h"

#ifdef __cplusplus
extern "C" {
#endif

enum phone_kind { PHONE_FIXED, PHONE_MOBILE, PHONE_FIXED_OR_MOBILE, PHONE_VOIP, PHONE_PERSONAL, PHONE_TOLL_FREE, PHONE_PREMIUM, PHONE_SHARED_COST, PHONE_OTHER, PHONE_KINDS };
extern const char *const phone_kind_names[PHONE_KINDS]; /* "fixed", "mobile", "fixed_or_mobile", "voip", … */

struct phone_number {
    char e164[20];
    char country[4]; /**< ISO 3166-1 alpha-2, "001" for numbers of no country */
    enum phone_kind kind;
};

/* Loads the tables (some 20 ms), so that no caller waits for it. */
void phone_warm(void);
/* `country`: where a number without "+" is dialled from; NULL: only numbers with "+" are understood. PL_INVALID_REQUEST when there is no such number;
 * PL_NO_MEMORY. */
PL_MUST enum pl_err phone_parse(struct pl_str given, const char *country, struct phone_number *ret);
/* Whether a PIN may go there (S-F5). */
bool phone_may_get_pin(enum phone_kind kind);

#ifdef __cplusplus
}
#endif
