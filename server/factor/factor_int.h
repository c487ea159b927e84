/* factor_int.h - what the files of factor/ share. Not a door. */
#pragma once
#include "factor.h"
#include "factor_sql.h"

/* ---- factor_webauthn.c: W3C WebAuthn without state and without a database ---- */
struct webauthn_rp {
    struct pl_str id, origins; /**< origins: parted by blanks */
};
/* Checks type, origin and crossOrigin of a clientDataJSON; *ret_question is its challenge. PL_PASSKEY_REFUSED. */
PL_MUST enum pl_err webauthn_client_data(const struct webauthn_rp *rp, struct pl_arena *a, const char *type, struct pl_str raw, struct pl_str *ret_question, struct pl_fail *reterr);
struct webauthn_key {
    struct pl_str credential_id, public_key; /**< public_key: in libfido2's form of the algorithm */
    int32_t algorithm;                       /**< COSE: -7, -8 or -257 */
    uint32_t sign_count;
    bool backed_up;
};
/* Reads the new key out of an attestation object. The statement is not looked at. PL_PASSKEY_REFUSED. */
PL_MUST enum pl_err webauthn_new_key(const struct webauthn_rp *rp, struct pl_arena *a, struct pl_str attestation_object, struct webauthn_key *ret, struct pl_fail *reterr);
struct webauthn_signed {
    struct pl_str client_data, authenticator_data, signature;
};
/* Checks the signature over authenticator data and clientDataJSON, with user presence and verification. *io: its key; sign_count and backed_up become what was signed. */
PL_MUST enum pl_err webauthn_verify(const struct webauthn_rp *rp, const struct webauthn_signed *given, struct webauthn_key *io, struct pl_fail *reterr);
