(function () {
  "use strict";
  document.documentElement.classList.add("js");

  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    button.addEventListener("click", function () {
      var field = document.getElementById(button.dataset.copy);
      var done = function () {
        button.textContent = "Copied";
        setTimeout(function () { button.textContent = "Copy"; }, 2000);
      };
      if (navigator.clipboard) {
        navigator.clipboard.writeText(field.value).then(done, function () { field.select(); });
      } else {
        field.select();
        if (document.execCommand("copy")) { done(); }
      }
    });
  });

  var live = document.getElementById("live");
  if (!live) { return; }

  var clock = document.getElementById("left");
  var left = Number(live.dataset.left);
  var start = Date.now();
  setInterval(function () {
    var rest = Math.max(0, Math.round(left - (Date.now() - start) / 1000));
    var minutes = Math.floor(rest / 60), seconds = rest % 60;
    var hours = Math.floor(minutes / 60);
    clock.textContent = hours ? hours + " h " + (minutes % 60) + " min"
      : minutes + ":" + (seconds < 10 ? "0" : "") + seconds;
  }, 1000);

  var events = new EventSource(live.dataset.events);
  events.addEventListener("status", function (event) {
    if (event.data !== live.dataset.state) {
      events.close();
      location.reload();
    }
  });
}());
