/** Microsoft.ContainerRegistry: one registry, its administrator's account, and imports on the server's side. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";

import { PullFailed } from "../../../common/machine/images.ts";
import { DockerRegistry } from "../../../common/registry/docker-registry.ts";
import type { Context } from "../../context.ts";
import { isSame, resourceId } from "../../context.ts";
import type { Schema } from "../../models/schema.ts";
import { ArmFault, notSimulated, resourceNotFound } from "../../wire/fault.ts";
import { LongOperations } from "../../wire/long-running.ts";
import {
  type ArmAnswer,
  type ArmCall,
  type ArmOperation,
  inGroup,
  type ResourceProvider,
} from "../../wire/provider.ts";
import type { IdentityRegistries } from "../app/pulling.ts";
import { AcrFront } from "./front.ts";
import { RegistryTokens, tokenUser } from "./tokens.ts";

const run = promisify(execFile);

interface ImportBody {
  readonly source: {
    readonly resourceId?: string;
    readonly registryUri?: string;
    readonly credentials?: { readonly username?: string; readonly password: string };
    readonly sourceImage: string;
  };
  readonly targetTags?: readonly string[];
  readonly untaggedTargetRepositories?: readonly string[];
  readonly mode?: "NoForce" | "Force";
}

const text: Schema = { kind: "string" };
const texts: Schema = { kind: "list", element: text };

/** The shape of `ImportImageParameters`, 2025-11-01. */
const importBody: Schema = {
  kind: "object",
  properties: {
    source: {
      required: true,
      schema: {
        kind: "object",
        properties: {
          resourceId: { schema: text },
          registryUri: { schema: text },
          credentials: {
            schema: {
              kind: "object",
              properties: { username: { schema: text }, password: { schema: text, required: true } },
            },
          },
          sourceImage: { schema: text, required: true },
        },
      },
    },
    targetTags: { schema: texts },
    untaggedTargetRepositories: { schema: texts },
    mode: { schema: { kind: "string", values: ["NoForce", "Force"] } },
  },
};

/** Without these a registry answers only for Docker's oldest manifests. */
const manifestTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];

const registryType = "Microsoft.ContainerRegistry/registries";

/** The registry of the subscription. */
export class Registry implements IdentityRegistries, AsyncDisposable {
  readonly provider: ResourceProvider;
  readonly name: string;
  /** Password of the administrator's account, whose user is the registry's name. */
  readonly password = randomBytes(26).toString("base64url");
  readonly #context: Context;
  readonly #tokens: RegistryTokens;
  readonly #front: AcrFront;

  private constructor(context: Context, name: string) {
    this.#context = context;
    this.name = name;
    this.#tokens = new RegistryTokens(context, this.id);
    this.#front = new AcrFront(context, this, this.#tokens, () =>
      DockerRegistry.start(join(context.directory, "registry")),
    );
    const operations = new LongOperations(context, "Microsoft.ContainerRegistry", "registry");
    this.provider = {
      name: "registry",
      namespace: "Microsoft.ContainerRegistry",
      apiVersions: ["2025-11-01", "2025-04-01", "2023-07-01"],
      operations: [...this.#operations(operations), ...operations.calls],
    };
  }

  static async start(context: Context, name: string): Promise<Registry> {
    const registry = new Registry(context, name);
    await registry.#front.listen();
    return registry;
  }

  /** Resource ID. */
  get id(): string {
    return resourceId(this.#context, `${registryType}/${this.name}`);
  }

  /** `127.0.0.1:port`, plain HTTP: the login server. */
  get host(): string {
    return this.#front.host;
  }

  credentialsFor(identity: string, server: string): { readonly username: string; readonly password: string } {
    const principal = this.#context.entra.identity(identity);
    if (principal === undefined || !isSame(server, this.host)) {
      const message = `unable to pull image using Managed identity ${identity} for registry ${server}`;
      throw new PullFailed("refused", message, undefined);
    }
    return { username: tokenUser, password: this.#tokens.issueRefresh({ principal }) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#front[Symbol.asyncDispose]();
  }

  #operations(long: LongOperations): ArmOperation[] {
    const path = inGroup("Microsoft.ContainerRegistry", "/registries/{registryName}");
    return [
      {
        name: "Registries_Get",
        method: "GET",
        path,
        action: `${registryType}/read`,
        run: (call) => {
          this.#check(call);
          return { status: 200, body: this.#show() };
        },
      },
      {
        name: "Registries_ImportImage",
        method: "POST",
        path: `${path}/importImage`,
        action: `${registryType}/importImage/action`,
        body: { schema: importBody, required: true },
        run: async (call): Promise<ArmAnswer> => {
          this.#check(call);
          return await long.answer(call, {
            delayMs: this.#context.delays.importImage,
            by: "location",
            accepted: { status: 202 },
            finish: () => this.#import(call.body as ImportBody),
          });
        },
      },
    ];
  }

  #check({ path }: ArmCall): void {
    const { registryName = "", resourceGroupName = "" } = path;
    if (!isSame(registryName, this.name)) {
      throw resourceNotFound(registryType, registryName, resourceGroupName);
    }
  }

  #show(): object {
    return {
      id: this.id,
      name: this.name,
      type: registryType,
      location: this.#context.location,
      sku: { name: "Basic", tier: "Basic" },
      properties: { loginServer: this.host, provisioningState: "Succeeded", adminUserEnabled: true },
    };
  }

  /** Copies an image with everything that its index names. */
  async #import({
    source,
    targetTags = [],
    untaggedTargetRepositories = [],
    mode,
  }: ImportBody): Promise<ArmAnswer> {
    if (untaggedTargetRepositories.length > 0) {
      throw notSimulated("an import without a tag");
    }
    if (source.resourceId !== undefined && !isSame(source.resourceId, this.id)) {
      throw notSimulated("an import from another registry of Azure by its resource ID");
    }
    const { sourceImage, registryUri, credentials } = source;
    if ((registryUri === undefined) === (source.resourceId === undefined)) {
      throw new ArmFault(400, "InvalidParameters", "Exactly one of resourceId and registryUri is required.");
    }
    const targets = targetTags.length > 0 ? targetTags : [sourceImage.replace(/@.*/, "")];
    const behind = await this.#front.behind();
    for (const target of targets) {
      const [, repository = "", tag = "latest"] = /^([^:@]+)(?::([^:@]+))?$/.exec(target) ?? [];
      const existing = await fetch(`http://${behind}/v2/${repository}/manifests/${tag}`, {
        method: "HEAD",
        headers: { accept: manifestTypes.join(", ") },
      });
      if (existing.ok && mode !== "Force") {
        throw new ArmFault(409, "TagAlreadyExists", `The tag '${repository}:${tag}' already exists.`);
      }
    }
    const named = /[:@][^/]*$/.test(sourceImage) ? sourceImage : `${sourceImage}:latest`;
    const from = `${registryUri ?? behind}/${named}`;
    const plain = /^(127\.\d+\.\d+\.\d+|localhost)(:\d+)?\//.test(from);
    const login =
      credentials === undefined
        ? "--src-no-creds"
        : `--src-creds=${credentials.username ?? tokenUser}:${credentials.password}`;
    const flags = [
      "--insecure-policy",
      "copy",
      "--all",
      `--src-tls-verify=${!plain}`,
      "--dest-tls-verify=false",
    ];
    for (const target of targets) {
      const to = `docker://${behind}/${target.includes(":") ? target : `${target}:latest`}`;
      try {
        await run("skopeo", [...flags, "--preserve-digests", login, `docker://${from}`, to]);
      } catch (error) {
        const message = `Error copying image ${from}: ${String((error as { stderr?: string }).stderr).trim()}`;
        throw new ArmFault(400, "ImportImageFailed", message);
      }
    }
    return { status: 200 };
  }
}
