// An OpenID provider, as a real one is written with oidc-provider: `node provider.mjs`. The first line of stdin is {"clients": […]}; the first of stdout tells the issuer. Its own
// page of log-in takes any name with any password; the name is the account. It ends with stdin.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { clients } = JSON.parse((await lines.next()).value);
const server = createServer();
await new Promise((listens) => server.listen(0, "127.0.0.1", listens));
const issuer = `http://127.0.0.1:${server.address().port}`;
const key = (kind, options, more) => ({ ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }), use: "sig", ...more });
const provider = new Provider(issuer, {
  clients,
  jwks: { keys: [key("rsa", { modulusLength: 2048 }, { kid: "rsa", alg: "RS256" }), key("ec", { namedCurve: "P-256" }, { kid: "ec", alg: "ES256" })] },
  cookies: { keys: ["not a secret: these are tests"] },
  pkce: { required: () => true },
  conformIdTokenClaims: false, // what is known of the account stands in the ID token, as the large providers do it
  claims: { openid: ["sub"], email: ["email"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@elsewhere.example` }) }),
});
server.on("request", provider.callback());
process.stdout.write(JSON.stringify({ issuer }) + "\n");
await lines.next();
process.exit(0);
