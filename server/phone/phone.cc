// phone.cc - the C door over libphonenumber. No exception leaves it.
#include "phone.h"
#include <cstring>
#include <new>
#include <string>
#include <phonenumbers/phonenumberutil.h>

using i18n::phonenumbers::PhoneNumber;
using i18n::phonenumbers::PhoneNumberUtil;

const char *const phone_kind_names[PHONE_KINDS] = { "fixed", "mobile", "fixed_or_mobile", "voip", "personal", "toll_free", "premium", "shared_cost", "other" };

static enum phone_kind kind_of(PhoneNumberUtil::PhoneNumberType t)
{
    switch (t) {
    case PhoneNumberUtil::FIXED_LINE: return PHONE_FIXED;
    case PhoneNumberUtil::MOBILE: return PHONE_MOBILE;
    case PhoneNumberUtil::FIXED_LINE_OR_MOBILE: return PHONE_FIXED_OR_MOBILE;
    case PhoneNumberUtil::VOIP: return PHONE_VOIP;
    case PhoneNumberUtil::PERSONAL_NUMBER: return PHONE_PERSONAL;
    case PhoneNumberUtil::TOLL_FREE: return PHONE_TOLL_FREE;
    case PhoneNumberUtil::PREMIUM_RATE: return PHONE_PREMIUM;
    case PhoneNumberUtil::SHARED_COST: return PHONE_SHARED_COST;
    default: return PHONE_OTHER; /* pager, UAN, voice mail, unknown */
    }
}

bool phone_may_get_pin(enum phone_kind kind) { return kind <= PHONE_TOLL_FREE; }

static enum pl_err parse(struct pl_str given, const char *country, struct phone_number *ret)
{
    const PhoneNumberUtil *util = PhoneNumberUtil::GetInstance();
    PhoneNumber number;
    std::string e164, region;
    if (util->Parse(std::string(given.p, given.n), country ? country : "ZZ", &number) != PhoneNumberUtil::NO_PARSING_ERROR || number.has_extension() || !util->IsValidNumber(number))
        return PL_INVALID_REQUEST;
    util->Format(number, PhoneNumberUtil::E164, &e164);
    util->GetRegionCodeForNumber(number, &region);
    if (e164.size() >= sizeof ret->e164 || region.size() >= sizeof ret->country)
        return PL_INVALID_REQUEST;
    std::memcpy(ret->e164, e164.c_str(), e164.size() + 1);
    std::memcpy(ret->country, region.c_str(), region.size() + 1);
    ret->kind = kind_of(util->GetNumberType(number));
    return PL_OK;
}

enum pl_err phone_parse(struct pl_str given, const char *country, struct phone_number *ret)
{
    try {
        return given.n > 0 && given.n <= 64 ? parse(given, country, ret) : PL_INVALID_REQUEST;
    } catch (const std::bad_alloc &) {
        return PL_NO_MEMORY;
    } catch (...) {
        return PL_INTERNAL;
    }
}

void phone_warm(void)
{
    struct phone_number n;
    enum pl_err e = phone_parse(PL_STR("+12025550123"), nullptr, &n);
    (void)e; /* what fails now fails for the first caller, and is told there */
}
