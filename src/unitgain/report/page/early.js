// Runs before anything is shown: the theme, and a word to the reader if a script fails.
(() => {
  const root = document.documentElement;
  let theme = null;
  try { theme = localStorage.getItem("unitgain-theme"); } catch { /* a page from disk may have no storage */ }
  root.dataset.theme = theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  addEventListener("error", event => {
    root.dataset.errors = (root.dataset.errors || "") + event.message + "\n";
    const place = document.getElementById("trouble");
    if (place) { place.hidden = false; place.textContent = "Part of this page could not be drawn: " + event.message; }
  });
})();
