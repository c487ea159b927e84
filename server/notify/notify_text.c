/* Every sentence that the server sends to a person by e-mail, SMS or voice stands in this table. {pin} {ordinal} {minutes} {about} are filled in;
 * a voice call speaks the digits one by one. Subjects hold no value, so that no header is ever made from what a person typed. */
#include "notify_int.h"

static const struct text {
    const char *name, *subject, *email, *phone;
} texts[NOTIFY_KINDS] = {
    [NOTIFY_PIN] = { "pin", "Your Porchlight PIN",
        "Your Porchlight PIN {about}:\n\n    {pin}\n\nThis is your {ordinal} PIN; only the newest one works, for {minutes} minutes.\n"
        "Never tell it to anyone. If you did not ask for it, you need do nothing.\n",
        "{pin} is your {ordinal} Porchlight PIN {about}. It works for {minutes} minutes. Never tell it to anyone." },
    [NOTIFY_SIGN_UP_TAKEN] = { "sign_up_taken", "You have a Porchlight account already",
        "Somebody, perhaps you, began to sign up at Porchlight with this e-mail address.\nThere is an account with it already: sign in instead.\n"
        "If it was not you, you need do nothing: nothing was changed and nobody was told.\n", NULL },
    [NOTIFY_TOKEN_REUSED] = { "token_reused", "A Porchlight client was signed out",
        "Two programs used the same sign-in of your client \"{about}\". One of them may be a copy that is not yours, so both were signed out.\n"
        "Sign in again on your own client; change your password if you do not know how this came about.\n", NULL },
    [NOTIFY_ACCOUNT_DELETED] = { "account_deleted", "Your Porchlight account was deleted",
        "Your Porchlight account was deleted, as you asked. Your devices are free and can be added to another account.\n", NULL },
    [NOTIFY_PASSWORD_LINK] = { "password_link", "Set a new Porchlight password",
        "Somebody, perhaps you, forgot the password of your Porchlight account. Open this link to set a new one; a PIN will be sent to your phone:\n\n    {about}\n\n"
        "It works once, for {minutes} minutes. If you did not ask for it, you need do nothing: nothing was changed.\n", NULL },
    [NOTIFY_PASSWORD_CHANGED] = { "password_changed", "Your Porchlight password was changed",
        "The password of your Porchlight account was changed, and other clients were signed out.\nIf it was not you, reset your password now.\n", NULL },
    [NOTIFY_EMAIL_CHANGED] = { "email_changed", "Your Porchlight account has another e-mail address",
        "The e-mail address of your Porchlight account was changed; this one is not its address any more.\n"
        "If it was not you, undo it within 72 hours; that also signs everybody out, and a new password must be set:\n\n    {about}\n", NULL },
    [NOTIFY_PHONE_CHANGED] = { "phone_changed", "Your Porchlight account has another phone number",
        "The phone number of your Porchlight account was changed.\n"
        "If it was not you, undo it within 72 hours; that also signs everybody out, and a new password must be set:\n\n    {about}\n",
        "The phone number of your Porchlight account was changed. If it was not you, undo it within 72 hours: {about}" },
    [NOTIFY_CHANGE_UNDONE] = { "change_undone", "A change of your Porchlight account was undone",
        "A change of your Porchlight account's e-mail address or phone number was undone. Everybody was signed out; the old password, passkeys and authenticator apps work no more:\n"
        "set a new one by the link that comes in another message, or by \"forgot password\" in the app.\n", NULL },
    [NOTIFY_HUB_DELETED] = { "hub_deleted", "A hub was deleted from your Porchlight system",
        "The hub of your system \"{about}\" was deleted. The system and its cameras stay; a new hub can be added to it.\n"
        "If it was not you, change your password and look at your clients.\n", NULL },
    [NOTIFY_HUB_REPLACED] = { "hub_replaced", "A hub of your Porchlight system was replaced",
        "The hub of your system \"{about}\" was replaced by another one. If it was not you, change your password and look at your clients.\n", NULL },
    [NOTIFY_DEVICE_TRIED] = { "device_tried", "Somebody tried to add your Porchlight device",
        "Somebody tried to add your device \"{about}\" to another account. They were refused, and nothing was changed.\n"
        "If you sold or gave the device away, delete it from your account so that its new owner can use it.\n", NULL },
    [NOTIFY_FACTORS_CHANGED] = { "factors_changed", "The ways to sign in to your Porchlight account",
        "{about}.\nIf it was not you, change your password and look at your clients and ways to sign in.\n", NULL },
    [NOTIFY_ACCESS_CHANGED] = { "access_changed", "Who has access to your Porchlight account",
        "{about}.\nIf it was not you, change your password, and look at your tokens, linked services and clients.\n", NULL },
};

const char *notify_kind_name(enum notify_kind k) { return texts[k].name; }

static const char *ordinal_suffix(int32_t n)
{
    static const char *const suffixes[] = { "th", "st", "nd", "rd" };
    return n % 100 >= 11 && n % 100 <= 13 ? "th" : suffixes[n % 10 <= 3 ? n % 10 : 0];
}

/* What a person typed is told in at most 200 bytes and without control characters. */
static void add_about(struct pl_buf *b, struct pl_str about)
{
    for (size_t i = 0; i < about.n && i < 200; i++)
        pl_buf_u8(b, (unsigned char)about.p[i] < ' ' || about.p[i] == 0x7f ? ' ' : (uint8_t)about.p[i]);
}

static void add_pin(struct pl_buf *b, const struct notify_message *m)
{
    for (size_t i = 0; i < m->pin.n; i++) {
        pl_buf_u8(b, (uint8_t)m->pin.p[i]);
        if (m->channel == NOTIFY_VOICE && i + 1 < m->pin.n)
            pl_buf_z(b, ", ");
    }
}

static void add_value(struct pl_buf *b, struct pl_str name, const struct notify_message *m)
{
    if (pl_str_eqz(name, "pin"))
        add_pin(b, m);
    else if (pl_str_eqz(name, "ordinal"))
        pl_buf_fmt(b, "%d%s", m->ordinal, ordinal_suffix(m->ordinal));
    else if (pl_str_eqz(name, "minutes"))
        pl_buf_fmt(b, "%lld", (long long)(m->life_us / PL_MINUTE));
    else
        add_about(b, m->about);
}

enum pl_err notify_render(const struct notify_message *m, struct pl_arena *a, struct notify_body *ret)
{
    const struct text *t = &texts[m->kind];
    struct pl_str rest = pl_str_of(m->channel == NOTIFY_EMAIL ? t->email : t->phone);
    struct pl_buf b = pl_buf_init(a, 4096);
    if (!rest.p)
        return PL_CHANNEL_REFUSED;
    while (rest.n) {
        struct pl_str after;
        pl_buf_str(&b, pl_str_split(rest, '{', &after));
        if (!after.n)
            break;
        add_value(&b, pl_str_split(after, '}', &rest), m);
    }
    if (pl_buf_err(&b) != PL_OK)
        return PL_NO_MEMORY;
    *ret = (struct notify_body){ .to = m->to, .subject = pl_str_of(t->subject), .text = pl_buf_view(&b), .pin = m->pin };
    return PL_OK;
}
