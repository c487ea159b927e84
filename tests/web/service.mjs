// A service that wants to be linked to accounts, as one is written with openid-client: `node service.mjs ISSUER CLIENT_ID [CLIENT_SECRET]`. Each line of stdin is {"id", "do", …};
// each line of stdout answers {"id", "value"} or {"id", "error", "code"}. The library checks state, iss, PKCE and the metadata by itself.
import * as client from "openid-client";
import { createInterface } from "node:readline";

const [issuer, id, secret] = process.argv.slice(2);
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const config = await client.discovery(new URL(issuer), id, undefined, secret ? client.ClientSecretBasic(secret) : client.None(), { algorithm: "oauth2", execute: [client.allowInsecureRequests] });
const state = client.randomState();
const verifier = client.randomPKCECodeVerifier();
const done = {
  url: async ({ redirect_uri, scope }) =>
    client.buildAuthorizationUrl(config, { redirect_uri, scope, state, code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256" }).href,
  grant: ({ url }) => client.authorizationCodeGrant(config, new URL(url), { pkceCodeVerifier: verifier, expectedState: state }),
  refresh: ({ token }) => client.refreshTokenGrant(config, token),
  revoke: ({ token }) => client.tokenRevocation(config, token),
  verifier: () => verifier,
};
say({ id: 0, value: config.serverMetadata() });
for await (const line of createInterface({ input: process.stdin })) {
  const { id: number, do: what, ...more } = JSON.parse(line);
  try {
    say({ id: number, value: (await done[what](more)) ?? null });
  } catch (error) {
    say({ id: number, error: error.error ?? String(error), code: error.code });
  }
}
