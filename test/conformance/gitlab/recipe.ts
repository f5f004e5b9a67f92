/** The configuration and the jobs of docs/ci/gitlab.md. */
import assert from "node:assert/strict";

import { parse } from "yaml";

import { readRecipe } from "../../support/recipes.ts";
import type { Job } from "./jobs.ts";

/** A job as `.gitlab-ci.yml` has it. */
interface WrittenJob {
  readonly image: string;
  readonly script: readonly string[];
  readonly needs?: readonly string[];
  readonly services?: readonly { readonly name: string; readonly alias: string }[];
  readonly cache?: { readonly key: string; readonly paths: readonly string[] };
  readonly artifacts?: { readonly paths: readonly string[] };
}

export class Recipe {
  /** Commands that remove the containers and networks of a runner that is no more. */
  readonly clearing: string;
  readonly #configuration: string;
  readonly #jobs: Readonly<Record<string, WrittenJob>>;

  private constructor(configuration: string, jobs: Readonly<Record<string, WrittenJob>>, clearing: string) {
    this.clearing = clearing;
    this.#configuration = configuration;
    this.#jobs = jobs;
  }

  static async read(): Promise<Recipe> {
    const page = await readRecipe("gitlab");
    const block = (beginning: string): string =>
      new RegExp(`^\`\`\`${beginning}\\n(.*?)^\`\`\`$`, "ms").exec(page)?.[1] ??
      assert.fail(`the page has no ${beginning}`);
    return new Recipe(
      block("toml\n# config.toml"),
      parse(block("yaml\n# .gitlab-ci.yml")) as Readonly<Record<string, WrittenJob>>,
      block("sh"),
    );
  }

  /** Name of the helper's image. */
  get helperImage(): string {
    return /^ +helper_image = "(.*)"/m.exec(this.#configuration)?.[1] ?? assert.fail("it names no helper");
  }

  /** The configuration's file as it stands there, but for its addresses. */
  configuration(url: string, daemon: string): string {
    return [
      ["https://gitlab.example.com", url],
      ["unix:///var/run/sockerless.sock", daemon],
    ].reduce((text, [from = "", to = ""]) => {
      assert.ok(text.includes(`"${from}"`), `it does not name ${from}`);
      return text.replace(`"${from}"`, `"${to}"`);
    }, this.#configuration);
  }

  /** A job as GitLab hands it to a runner. @param has what its log must have @param name another than its own */
  job(written: string, has: readonly string[], name = written): Job {
    const { cache, artifacts, ...job } = this.#jobs[written] ?? assert.fail(`there is no job ${written}`);
    const when = "on_success";
    return {
      ...job,
      name,
      expect: { has },
      ...(cache && { cache: [{ ...cache, untracked: false, policy: "pull-push", when }] }),
      ...(artifacts && {
        artifacts: [{ ...artifacts, when, artifact_type: "archive", artifact_format: "zip" }],
      }),
    };
  }
}
