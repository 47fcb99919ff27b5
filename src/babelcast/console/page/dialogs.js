// The login, and the operator's name.

import { h, icon, text } from "./dom.js";
import { ask, me } from "./net.js";

/** Covers the page until the server has taken the token. */
export function login(done) {
  if (document.querySelector(".screen")) return; // it is asked already
  const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true });
  const name = h("input", { type: "text", id: "name", name: "name", autocomplete: "username", maxlength: 40, value: me.name, placeholder: "operator" });
  const error = h("p", { class: "field-error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Log in");
  const form = h(
    "form",
    { class: "card login" },
    h("h1", {}, "Babelcast"),
    h("p", {}, "This page controls what is on air. It needs the API's token: ", h("code", {}, "api_token"), " in ", h("code", {}, "babelcast.yaml"), "."),
    h("label", { for: "name" }, "Your name, for the others"),
    name,
    h("label", { for: "token" }, "Token"),
    token,
    error,
    button,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    text(error, "");
    try {
      me.name = name.value.trim();
      await ask("POST", "api/v1/session", { token: token.value });
      screen.remove();
      done();
    } catch (refused) {
      text(error, refused.message);
      token.select();
    } finally {
      button.disabled = false;
    }
  });
  const screen = h("div", { class: "screen" }, form);
  document.body.append(screen);
  token.focus();
}

/** Who is asking: shown to the others, and beside everything that is changed. */
export function askName(page, done) {
  const name = h("input", { type: "text", id: "who", autocomplete: "nickname", maxlength: 40, value: me.name });
  const dialog = h("dialog", { class: "card", "aria-labelledby": "who-title" });
  const logout = h("button", { type: "button", class: "quiet", onclick: () => page.act(logout, async () => {
    await ask("DELETE", "api/v1/session");
    location.reload();
  }) }, "Log out");
  const theme = h("button", { type: "button", class: "quiet", onclick: () => page.theme(document.documentElement.dataset.theme === "light" ? "dark" : "light") }, "Light or dark");
  dialog.append(
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "who-title" }, "You"),
      h("label", { for: "who" }, "Your name, for the others"),
      name,
      h("div", { class: "dialog-row" }, h("button", { class: "primary", value: "keep" }, "Keep"), h("button", { class: "quiet", value: "" }, "Cancel"), theme, page.store.state?.server.login ? logout : null),
    ),
  );
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "keep") {
      me.name = name.value.trim();
      done();
    }
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  name.select();
}

/** A short word at the edge, that goes by itself. */
export function say(message, tone = "alarm") {
  let stack = document.querySelector(".toasts");
  if (!stack) document.body.append((stack = h("div", { class: "toasts", role: "alert" })));
  const toast = h("p", { class: "toast", "data-tone": tone }, icon(tone === "ok" ? "ok" : "alarm"), message);
  stack.append(toast);
  while (stack.children.length > 3) stack.firstChild.remove();
  setTimeout(() => toast.remove(), 6000);
}
