// The page of /oauth/authorize: signs a person in by the REST API, asks for a yes, signs out again and goes where the server says. Nothing is kept in the browser.
const $ = (id) => document.getElementById(id);
const asked = Object.fromEntries(new URLSearchParams(location.search));
let token, challenge;

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

function step(id, run) {
  $(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $(id).querySelector("button");
    button.disabled = true;
    $("said").textContent = "";
    try {
      await run(Object.fromEntries(new FormData($(id))));
    } catch (error) {
      $("said").textContent = error.message;
    }
    button.disabled = false;
  });
}

function show(id) {
  for (const form of document.forms) form.hidden = form.id !== id;
  $(id).querySelector("input, button").focus();
}

step("sign-in", async ({ email, password }) => {
  $("who").textContent = email;
  const answer = await call("POST", "/v1/sessions", { email, password, client: { name: `Linking ${$("client").textContent}`.slice(0, 64), platform: "browser" } });
  challenge = answer.challenge;
  if (challenge.sent_count === 0)
    challenge = { ...challenge, ...(await call("POST", `/v1/challenges/${challenge.id}/resend`, { channel: "email" }, { "Challenge-Key": challenge.key })).challenge };
  $("sent-to").textContent = challenge.sent_to;
  show("pin");
});

step("pin", async ({ pin }) => {
  token = (await call("POST", `/v1/challenges/${challenge.id}/verify`, { pin }, { "Challenge-Key": challenge.key })).access_token;
  show("consent");
});

step("consent", async () => {
  const { client_id, redirect_uri, response_type, scope, state, code_challenge, code_challenge_method } = asked;
  const { redirect_to } = await call("POST", "/v1/account/services", { client_id, redirect_uri, response_type, scope, state, code_challenge, code_challenge_method });
  await call("DELETE", "/v1/sessions/current");
  location.assign(redirect_to);
});
