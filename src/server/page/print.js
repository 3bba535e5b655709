// What can be done with a finished picture: its back, saving it, printing it.

import * as api from "./api.js";
import { command, reachable } from "./run.js";
import { number, seconds, t } from "./text.js";

/** Writes recipe and square code on the back of `polaroid`. */
export function recipe(polaroid, job, index) {
  const facts = [[t("fact_prompt"), job.prompt || t("none")], [t("fact_model"), job.model || t("none")], [t("fact_seed"), String(job.pictures[index]?.seed ?? t("none"))]];
  if (job.steps) facts.push([t("fact_steps"), number(job.steps)]);
  if (job.tookS !== null) facts.push([t("fact_time"), seconds(job.tookS)]);
  const link = reachable();
  const code = link ? new URL(api.pictureAddress(job.id, index), location.href).href : command(job, index);
  polaroid.recipe(facts, code, t(link ? "code_link" : "code_recipe"));
}

export function download(blob, job, index) {
  const words = job.prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "kiln";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${words}-${job.pictures[index]?.seed ?? job.id}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
