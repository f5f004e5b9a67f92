/** The files satisfy `terraform fmt`, tflint and HashiCorp's style guide. */
import assert from "node:assert/strict";
import { existsSync, globSync, mkdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";

import { buildLimitMs, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { HclModule, readSources, terraformPath } from "./hcl-module.ts";
import { skip, terraform } from "./terraform.ts";

const tflintVersion = "v0.54.0";
const cache = join(
  process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"),
  "sockerless/tflint",
  tflintVersion,
);
const tflint = join(cache, "tflint");
const directories = [
  "modules/ecs",
  "modules/ecs-service",
  "modules/aca",
  "environments/ecs-test",
  "environments/aca-test",
];

describe("the Terraform files", () => {
  it("are formatted", { skip }, async () => {
    const { code, text } = await runCommand(
      terraform ?? "",
      ["fmt", "-check", "-recursive", terraformPath()],
      {
        env: { ...process.env, TF_CLI_CONFIG_FILE: "/dev/null" },
      },
    );
    assert.equal(code, 0, text);
  });

  it("have nothing to say for tflint with all rules", async (context) => {
    const trouble = await buildTflint();
    if (trouble !== undefined) {
      context.skip(`tflint could not be built: ${trouble}`);
      return;
    }
    const config = join(checkout, "test/terraform/tflint.hcl");
    const { code, text, errorText } = await runCommand(
      tflint,
      ["--recursive", "--format=compact", `--config=${config}`],
      { cwd: terraformPath() },
    );
    assert.equal(code, 0, `${text}${errorText}`);
  });

  for (const directory of directories) {
    it(`name the arguments of each resource in order: ${directory}`, () => {
      for (const [file, text] of Object.entries(readSources(directory))) {
        for (const { title, groups } of argumentGroups(text)) {
          for (const group of groups) {
            const sorted = group.toSorted((left, right) => (left < right ? -1 : 1));
            assert.deepEqual(group, sorted, `${file}: ${title}`);
          }
        }
      }
    });

    it(`use nothing that is deprecated: ${directory}`, async () => {
      const module = await HclModule.parse(readSources(directory));
      for (const { type, name, body } of [...module.resources, ...module.dataSources]) {
        for (const attribute of deprecated[type] ?? []) {
          assert.ok(!(attribute in body), `${type}.${name}.${attribute}`);
        }
      }
    });
  }

  it("begin with a header in each module's main.tf", () => {
    for (const module of ["ecs", "ecs-service", "aca"]) {
      const header = readSources(`modules/${module}`)["main.tf"]?.split("\n\n")[0] ?? "";
      const all = readSources(`modules/${module}`)["main.tf"] ?? "";
      assert.match(header, /^# \S/);
      for (const part of ["# Purpose:", "# Usage:", "# Prerequisites:"]) {
        assert.ok(all.includes(part), `${module}: ${part}`);
      }
    }
  });

  it("are fit to read: none is longer than 500 lines", () => {
    for (const file of globSync("**/*.tf", { cwd: terraformPath() })) {
      const lines = readFileSync(join(terraformPath(), file), "utf8").split("\n").length;
      assert.ok(lines <= 500, `${file}: ${lines} lines`);
    }
  });
});

/** Deprecated arguments of what we use, by the providers' changelogs: their schema's own marks are not in the fixtures. */
const deprecated: Readonly<Record<string, readonly string[]>> = {
  aws_eip: ["vpc"],
  aws_iam_role: ["inline_policy", "managed_policy_arns"],
  aws_ecs_task_definition: ["inference_accelerator"],
  aws_iam_policy_document: ["source_json", "override_json"],
  aws_security_group: ["ingress", "egress"],
  aws_service_discovery_service: ["failure_threshold"],
  azurerm_log_analytics_workspace: ["local_authentication_disabled"],
  azurerm_storage_account: ["queue_properties", "static_website", "enable_https_traffic_only"],
};

/** Names of arguments of each resource and data source, as blank lines and multi-line values divide them. */
function argumentGroups(text: string): { title: string; groups: string[][] }[] {
  return [...text.matchAll(/^((?:resource|data|module) .*) \{\n([\s\S]*?)^\}/gm)].map(
    ([, title = "", body = ""]) => {
      const groups: string[][] = [[]];
      for (const line of body.split("\n")) {
        const name = /^ {2}(\w+)\s*=/.exec(line)?.[1];
        if (line.trim() === "" || /^ {2}(?:\w+|dynamic "\w+") \{/.test(line)) {
          groups.push([]);
        } else if (name !== undefined && !["source", "count", "for_each"].includes(name)) {
          groups.at(-1)?.push(name);
        }
      }
      return { title, groups };
    },
  );
}

/** Builds tflint once into a cache outside the checkout; answers why not, where it cannot be built. */
async function buildTflint(): Promise<string | undefined> {
  if (existsSync(tflint)) {
    return undefined;
  }
  mkdirSync(cache, { recursive: true });
  const build = await runCommand(
    "nice",
    ["-n", "10", "go", "install", `github.com/terraform-linters/tflint@${tflintVersion}`],
    {
      env: { ...process.env, CGO_ENABLED: "0", GOBIN: cache, GOFLAGS: "-p=2" },
      cwd: cache,
      timeout: buildLimitMs,
    },
  );
  return build.code === 0 ? undefined : build.errorText.split("\n").at(-1);
}
