#include "factor_int.h"

const struct conf_row factor_conf_rows[] = {
    CONF_STR("passkey.rp_id", struct factor_conf, rp_id, 253, "", "Domain for which passkeys are made (cloud.example); empty: passkeys are not offered. To change it makes all passkeys worthless."),
    CONF_STR("passkey.origins", struct factor_conf, origins, 4096, "", "Who may use passkeys, parted by blanks: web origins like https://app.example, apps like android:apk-key-hash:…"),
    CONF_STR("factor.issuer", struct factor_conf, issuer, 64, "Porchlight", "Name of this service in authenticator apps and passkeys."),
    CONF_END
};

void factor_init(struct factor *f, const struct factor_conf *conf, const struct pl_secret *master, struct pl_rand *rand)
{
    *f = (struct factor){ .conf = *conf, .rand = rand };
    secure_derive(master, "porchlight totp secret v1", &f->totp_key);
    secure_derive(master, "porchlight recovery code v1", &f->code_key);
    secure_derive(master, "porchlight passkey question v1", &f->question_key);
}

void factor_done(struct factor *f)
{
    pl_secret_wipe(&f->totp_key);
    pl_secret_wipe(&f->code_key);
    pl_secret_wipe(&f->question_key);
}

enum pl_err factor_look(struct db_tx *tx, struct pl_uuid account_id, struct factor_set *ret)
{
    struct factor_sql_look_row row;
    bool found;
    enum pl_err e = factor_sql_look(tx, account_id, &row, &found);
    if (e == PL_OK)
        *ret = (struct factor_set){ .totp = row.totp, .recovery_codes = row.recovery_codes, .passkeys = row.passkeys };
    return e;
}

enum pl_err factor_write(struct db_tx *tx, struct pl_uuid account_id, struct jw *w)
{
    struct factor_set set;
    struct factor_sql_passkeys_row *rows;
    size_t n;
    enum pl_err e = factor_look(tx, account_id, &set);
    if (e != PL_OK || (e = factor_sql_passkeys(tx, account_id, &rows, &n)) != PL_OK)
        return e;
    jw_bool(w, "totp", set.totp);
    jw_int(w, "recovery_codes_left", set.recovery_codes);
    jw_array(w, "passkeys");
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        jw_uuid(w, "id", rows[i].id);
        jw_str(w, "name", rows[i].name);
        jw_bool(w, "backed_up", rows[i].backed_up);
        jw_utc(w, "created_at", rows[i].created_at);
        if (rows[i].last_used_at.us)
            jw_utc(w, "last_used_at", rows[i].last_used_at);
        else
            jw_null(w, "last_used_at");
        jw_close(w);
    }
    jw_end_array(w);
    return PL_OK;
}

enum pl_err factor_forget(struct db_tx *tx, struct pl_uuid account_id)
{
    static enum pl_err (*const all[])(struct db_tx *, struct pl_uuid, int64_t *) = { factor_sql_totp_delete, factor_sql_codes_delete, factor_sql_forget_credentials,
        factor_sql_forget_passkeys };
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(all); i++)
        e = all[i](tx, account_id, NULL);
    return e;
}

enum pl_err factor_expire(struct db_tx *tx, struct pl_utc now) { return factor_sql_answered_expire(tx, now, NULL); }
