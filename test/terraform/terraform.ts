/** The real Terraform against the stand-in provider, in directories of a test's own. */
import assert from "node:assert/strict";
import { accessSync, constants } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { arch, platform, tmpdir } from "node:os";
import { delimiter, join } from "node:path";

import { buildLimitMs, type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { providers } from "./schemas/selection.ts";

/** Terraform's path, if there is one on PATH. */
export const terraform = (process.env["PATH"] ?? "")
  .split(delimiter)
  .map((directory) => join(directory, "terraform"))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

/** Why tests with Terraform are skipped; false where they run. */
export const skip = terraform === undefined ? "there is no terraform on PATH" : false;

/** Go's and Terraform's names of this machine are the same, Node's are not. */
const machine = `${platform()}_${arch() === "x64" ? "amd64" : arch()}`;
const mirror = join(checkout, "build/terraform/providers");

let built: Promise<void> | undefined;

/** Builds the provider into a mirror, under the names and versions of the real ones. */
function buildProvider(): Promise<void> {
  built ??= (async () => {
    await mkdir(mirror, { recursive: true });
    const scratch = await mkdtemp(join(mirror, "../build-"));
    try {
      const program = join(scratch, "provider");
      const build = await runCommand("go", ["build", "-trimpath", "-buildvcs=false", "-o", program, "."], {
        cwd: join(checkout, "test/terraform/provider"),
        env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-p=2" },
        timeout: buildLimitMs,
      });
      assert.equal(build.code, 0, build.errorText);
      for (const { name, version } of providers) {
        const directory = join(mirror, "registry.terraform.io/hashicorp", name, version, machine);
        await mkdir(directory, { recursive: true });
        await install(program, join(directory, `terraform-provider-${name}_v${version}`));
      }
    } finally {
      await rm(scratch, { recursive: true });
    }
  })();
  return built;
}

/** Puts a program in its place, unless it is there: another test run may be executing it, so it is not written over. */
async function install(program: string, place: string): Promise<void> {
  const wanted = await readFile(program);
  const present = await readFile(place).catch(() => undefined);
  if (present === undefined || !present.equals(wanted)) {
    const copy = `${program}.copy`;
    await copyFile(program, copy);
    await rename(copy, place);
  }
}

/**
 * Environment in which Terraform finds the stand-in for the clouds' providers, and nothing of the user's.
 *
 * @param directory where Terraform's own settings are put
 */
export async function standInEnvironment(directory: string): Promise<NodeJS.ProcessEnv> {
  await buildProvider();
  const settings = join(directory, "terraform.rc");
  await writeFile(
    settings,
    `provider_installation {\n  filesystem_mirror {\n    path = "${mirror}"\n  }\n}\n`,
  );
  return {
    ...withoutTerraformVariables(process.env),
    CHECKPOINT_DISABLE: "1",
    TF_CLI_CONFIG_FILE: settings,
    TF_IN_AUTOMATION: "1",
  };
}

/** A message of Terraform's. */
export interface Diagnostic {
  readonly severity: "error" | "warning";
  readonly summary: string;
  readonly detail: string;
}

/** A resource as a plan or a state has it. */
export interface PlannedResource {
  readonly address: string;
  readonly type: string;
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** The outcome that a plan announces. */
export interface Plan {
  readonly diagnostics: readonly Diagnostic[];
  /** All resources afterwards; empty when the plan failed. Values that only an apply knows are missing. */
  readonly resources: readonly PlannedResource[];
  /** Addresses of resources that would be changed, with what would be done. */
  readonly changes: readonly string[];
}

/** A directory with a root module. */
export class Workspace {
  readonly directory: string;
  #env: NodeJS.ProcessEnv = {};

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Makes a directory with this `main.tf.json` and initialises it. */
  static async create(configuration: unknown): Promise<Workspace> {
    const workspace = new Workspace(await mkdtemp(join(tmpdir(), "sockerless-terraform-")));
    await workspace.configure(configuration);
    await workspace.#initialise();
    return workspace;
  }

  /** Initialises a root module that is there; the directory goes with the workspace. */
  static async open(directory: string, variables: Readonly<Record<string, unknown>>): Promise<Workspace> {
    const workspace = new Workspace(directory);
    await writeFile(join(directory, "test.auto.tfvars.json"), JSON.stringify(variables));
    await workspace.#initialise();
    return workspace;
  }

  async #initialise(): Promise<void> {
    this.#env = await standInEnvironment(this.directory);
    await this.#succeed("init", "-input=false");
  }

  /** Replaces the root module; a module's source must stay the same. */
  async configure(configuration: unknown): Promise<void> {
    await writeFile(join(this.directory, "main.tf.json"), JSON.stringify(configuration));
  }

  async validate(): Promise<readonly Diagnostic[]> {
    const { text } = await this.#run("validate", "-json");
    return (JSON.parse(text) as { diagnostics: Diagnostic[] }).diagnostics;
  }

  async plan(...options: string[]): Promise<Plan> {
    const plan = await this.#run("plan", "-json", "-input=false", "-out=plan", ...options);
    const diagnostics = plan.text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as { type: string; diagnostic?: Diagnostic })
      .flatMap(({ type, diagnostic }) => (type === "diagnostic" && diagnostic ? [diagnostic] : []));
    if (plan.code !== 0) {
      assert.notDeepEqual(diagnostics, [], plan.errorText);
      return { diagnostics, resources: [], changes: [] };
    }
    const shown = JSON.parse((await this.#succeed("show", "-json", "plan")).text) as ShownPlan;
    return {
      diagnostics,
      resources: resourcesBelow(shown.planned_values.root_module),
      changes: (shown.resource_changes ?? [])
        .map(({ address, change }) => `${change.actions.join("+")} ${address}`)
        .filter((line) => !/^(no-op|read) /.test(line)),
    };
  }

  /** Applies the last plan. */
  async apply(): Promise<void> {
    await this.#succeed("apply", "-input=false", "-no-color", "plan");
  }

  /** Plans, which must work without a warning, and applies. */
  async planAndApply(): Promise<Plan> {
    const plan = await this.plan();
    assert.deepEqual(plan.diagnostics, []);
    await this.apply();
    return plan;
  }

  /** The values of all outputs. */
  async outputs(): Promise<Readonly<Record<string, unknown>>> {
    const { text } = await this.#succeed("output", "-json");
    const outputs = JSON.parse(text) as Record<string, { value: unknown }>;
    return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value]));
  }

  /** Lists the resources that the state holds. */
  async resources(): Promise<readonly PlannedResource[]> {
    const { values } = JSON.parse((await this.#succeed("show", "-json")).text) as ShownState;
    return values === undefined ? [] : resourcesBelow(values.root_module);
  }

  /** Destroys everything, as `terraform destroy` does. */
  async destroy(): Promise<void> {
    await this.#succeed("destroy", "-auto-approve", "-input=false", "-no-color");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }

  async #succeed(...args: string[]): Promise<CommandResult> {
    const result = await this.#run(...args);
    assert.equal(result.code, 0, `terraform ${args[0]}: ${result.errorText}\n${result.text}`);
    return result;
  }

  #run(...args: string[]): Promise<CommandResult> {
    return runCommand(terraform ?? "terraform", args, { cwd: this.directory, env: this.#env });
  }
}

interface ShownModule {
  readonly resources?: readonly (PlannedResource & { readonly mode: string })[];
  readonly child_modules?: readonly ShownModule[];
}

interface ShownPlan {
  readonly planned_values: { readonly root_module: ShownModule };
  readonly resource_changes?: readonly {
    readonly address: string;
    readonly change: { readonly actions: readonly string[] };
  }[];
}

interface ShownState {
  readonly values?: { readonly root_module: ShownModule };
}

function resourcesBelow({ resources = [], child_modules = [] }: ShownModule): PlannedResource[] {
  return [...resources.filter(({ mode }) => mode === "managed"), ...child_modules.flatMap(resourcesBelow)];
}

/** A developer's own settings must not change what a test sees. */
function withoutTerraformVariables(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !/^(TF|AWS|ARM)_/.test(name)));
}
