// Loaded before the page is drawn, so that a dark room is never lit up by a white flash.
"use strict";
{
  const chosen = localStorage.getItem("emox-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
