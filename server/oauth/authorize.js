// The page of /oauth/authorize: signs a person in by the REST API as any log-in does, asks for a yes, signs out again and goes where the server says. Nothing is kept in the browser.
const $ = (id) => document.getElementById(id);
const asked = Object.fromEntries(new URLSearchParams(location.search));
const client = { name: `Linking ${$("client").textContent}`.slice(0, 64), platform: "browser" };
const knowsPasskeys = Boolean(window.PublicKeyCredential?.parseRequestOptionsFromJSON);
let token, challenge, way;

// What a challenge may be answered with: what the page asks, what the button says, and how the answer is typed. `pin`: it is sent there first.
const ways = {
  passkey: { offer: "Use a passkey", ask: "Show your passkey." },
  totp: { offer: "Use the authenticator app", ask: "Type the six digits that your authenticator app shows.", label: "Code", pattern: "[0-9]{6}" },
  email: { offer: "Send a PIN by e-mail", pin: true },
  sms: { offer: "Send a PIN by text message", pin: true },
  voice: { offer: "Tell a PIN by a call", pin: true },
  recovery_code: { offer: "Use a recovery code", ask: "Type one of your recovery codes. It is good once.", label: "Recovery code" },
};

async function call(method, path, body, headers = {}) {
  const reply = await fetch(path, {
    method,
    headers: { ...(body ? { "Content-Type": "application/json" } : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers },
    body: body && JSON.stringify(body),
  });
  const answer = reply.status === 204 ? {} : await reply.json();
  if (!reply.ok) throw new Error(answer.detail ?? answer.title);
  return answer;
}

const ofChallenge = (what, body) => call("POST", `/v1/challenges/${challenge.id}/${what}`, body, { "Challenge-Key": challenge.key });

// One thing at a time, and what went wrong is said.
async function run(step) {
  const buttons = document.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  $("said").textContent = "";
  try {
    await step();
  } catch (error) {
    $("said").textContent = error.name === "NotAllowedError" ? "No passkey was shown." : error.message;
  }
  for (const button of buttons) button.disabled = false;
}

function step(id, submitted) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    run(() => submitted(Object.fromEntries(new FormData($(id)))));
  });
}

function show(id) {
  for (const form of document.forms) form.hidden = form.id !== id;
  $(id).querySelector("label:not([hidden]) > input, button").focus();
}

function button(text, pressed) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", className: "other", textContent: text });
  made.addEventListener("click", () => run(pressed));
  return made;
}

async function passkey({ public_key }) {
  const shown = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(public_key) });
  return shown.toJSON();
}

function askBy(name) {
  const by = ways[name];
  const input = $("answer").elements.answer;
  way = name;
  $("asks").textContent = by.pin ? `A PIN was sent to ${challenge.sent_to}.` : by.ask;
  $("typed").hidden = input.disabled = name === "passkey";
  $("typed").firstChild.data = `${by.label ?? "PIN"} `;
  input.value = "";
  input.inputMode = name === "recovery_code" ? "text" : "numeric";
  input.pattern = by.pin ? "[0-9]{6}" : by.pattern ?? ".*";
  const others = challenge.methods.filter((other) => other !== name && ways[other] && (other !== "passkey" || knowsPasskeys));
  $("ways").replaceChildren(...others.map((other) => button(ways[other].offer, () => change(other))));
  show("answer");
}

async function change(name) {
  if (ways[name].pin) Object.assign(challenge, (await ofChallenge("resend", { channel: name })).challenge);
  askBy(name);
}

async function signedIn(tokens) {
  token = tokens.access_token;
  $("who").textContent = (await call("GET", "/v1/account")).email;
  const { systems } = await call("GET", "/v1/systems?limit=200");
  for (const { id, name } of systems) {
    const label = document.createElement("label");
    const tick = Object.assign(document.createElement("input"), { type: "checkbox", name: "system", value: id });
    tick.addEventListener("change", () => { $("consent").elements.which.value = "some"; });
    label.append(tick, ` ${name}`);
    $("some").append(label);
  }
  $("systems").hidden = systems.length === 0;
  show("consent");
}

step("sign-in", async ({ email, password }) => {
  const answer = await call("POST", "/v1/sessions", { email, password, client });
  challenge = { ...answer.challenge, methods: answer.methods ?? [answer.challenge.channel] };
  if (challenge.sent_count > 0) askBy(challenge.channel);
  else await change(["passkey", "totp"].find((name) => challenge.methods.includes(name) && (name !== "passkey" || knowsPasskeys)) ?? "email");
});

step("answer", async ({ answer }) => {
  const body = way === "passkey" ? { passkey: await passkey(await ofChallenge("passkey-options")) } : { [ways[way].pin ? "pin" : way]: answer };
  await signedIn(await ofChallenge("verify", body));
});

step("consent", async ({ which }) => {
  const { client_id, redirect_uri, response_type, scope, state, code_challenge, code_challenge_method } = asked;
  const systems = which === "some" ? { systems: new FormData($("consent")).getAll("system") } : {};
  const yes = { client_id, redirect_uri, response_type, scope, state, code_challenge, code_challenge_method, ...systems };
  const { redirect_to } = await call("POST", "/v1/account/services", yes);
  await call("DELETE", "/v1/sessions/current");
  location.assign(redirect_to);
});

// Offered where the browser knows passkeys; the server says if its operator does not.
$("passkey-alone").hidden = !knowsPasskeys;
$("passkey-alone").addEventListener("click", () => run(async () => {
  const credential = await passkey(await call("POST", "/v1/sessions/passkey-options"));
  await signedIn(await call("POST", "/v1/sessions/passkey", { credential, client }));
}));
