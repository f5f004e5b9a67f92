/**
 * Images on the machine: fetched by skopeo into an OCI layout and unpacked by umoci, once for each reference by digest;
 * containers put an overlay on top of what was unpacked.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
/** Time limit of skopeo and umoci: longer than the largest test image takes on a busy machine. */
const timeout = 180_000;

/** How to reach a registry. */
export interface RegistryAccess {
  /** Whether the registry is reached without TLS. */
  readonly plainHttp: boolean;
  readonly credentials?: { readonly username: string; readonly password: string };
}

/** The part of an image's configuration that containers are made with. */
export interface ImageConfig {
  readonly Env?: readonly string[] | null;
  readonly Entrypoint?: readonly string[] | null;
  readonly Cmd?: readonly string[] | null;
  readonly User?: string;
  readonly WorkingDir?: string;
  readonly StopSignal?: string;
}

/** An image that is on the machine. */
export interface Image {
  /** `sha256:…` of the manifest, or index, that the reference named. */
  readonly digest: string;
  /** Directory of the merged layers; never written to. */
  readonly rootfs: string;
  readonly config: ImageConfig;
}

/** A registry that did not give an image, or an image that cannot be unpacked; the message is skopeo's or umoci's. */
export class PullFailed extends Error {
  readonly reason: "missing" | "refused" | "broken";

  constructor(reason: PullFailed["reason"], message: string, cause: unknown) {
    super(message, { cause });
    this.reason = reason;
  }
}

/** The images of one simulator. */
export class ImageStore {
  readonly #directory: string;
  readonly #images = new Map<string, Promise<Image>>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Answers an image, fetched if the machine does not have it.
   *
   * @param reference `domain/repository:tag` or `…@sha256:…`
   * @throws {PullFailed} when the registry does not give it, or it cannot be unpacked
   */
  async pull(reference: string, access: RegistryAccess): Promise<Image> {
    const pinned = /^([^@]*)@(sha256:[0-9a-f]{64})$/.exec(reference);
    const digest = pinned?.[2] ?? (await currentDigest(reference, access));
    const repository = (pinned?.[1] ?? reference).replace(/:[^:/]*$/, "");
    const key = `${repository}@${digest}`;
    let image = this.#images.get(key);
    if (image === undefined) {
      image = this.#fetch(key, digest, access);
      this.#images.set(key, image);
      // The next task tries again.
      image.catch(() => this.#images.delete(key));
    }
    return await image;
  }

  /** Answers an image's digest, without fetching it. @throws {PullFailed} */
  async find(reference: string, access: RegistryAccess): Promise<string> {
    return await currentDigest(reference, access);
  }

  async #fetch(reference: string, digest: string, access: RegistryAccess): Promise<Image> {
    const directory = path.join(this.#directory, createHash("sha256").update(reference).digest("hex"));
    const layout = path.join(directory, "layout");
    const rootfs = path.join(directory, "rootfs");
    await mkdir(directory, { recursive: true });
    await skopeo([
      "copy",
      "--quiet",
      ...flags(access, "src-"),
      `docker://${reference}`,
      `oci:${layout}:image`,
    ]);
    await rm(rootfs, { recursive: true, force: true }); // A failed try may have left it.
    await umoci(["raw", "unpack", "--image", `${layout}:image`, rootfs]);
    return { digest, rootfs, config: await readConfig(layout) };
  }
}

async function currentDigest(reference: string, access: RegistryAccess): Promise<string> {
  const manifest = await skopeo(["inspect", "--raw", ...flags(access, ""), `docker://${reference}`]);
  return `sha256:${createHash("sha256").update(manifest).digest("hex")}`;
}

async function skopeo(args: readonly string[]): Promise<Buffer> {
  try {
    const result = await run("skopeo", ["--insecure-policy", ...args], { encoding: "buffer", timeout });
    return result.stdout;
  } catch (error) {
    const stderr = complaintOf(error);
    const message = /msg="((?:[^"\\]|\\.)*)"/.exec(stderr)?.[1]?.replaceAll('\\"', '"') ?? stderr;
    const isMissing = /manifest unknown|name unknown|not found/i.test(message);
    throw new PullFailed(isMissing ? "missing" : "refused", message, error);
  }
}

async function umoci(args: readonly string[]): Promise<void> {
  try {
    await run("umoci", args, { timeout });
  } catch (error) {
    throw new PullFailed("broken", complaintOf(error).replace(/^.*⨯ /s, ""), error);
  }
}

/** The complaint that a program wrote before it failed. @throws the error itself: it did not run, or was killed */
function complaintOf(error: unknown): string {
  const { stderr, code } = error as { stderr?: Buffer | string; code?: number | string };
  if (typeof code !== "number") {
    throw error;
  }
  return String(stderr).trim();
}

function flags({ plainHttp, credentials }: RegistryAccess, prefix: "src-" | ""): string[] {
  return [
    `--${prefix}tls-verify=${!plainHttp}`,
    ...(credentials === undefined
      ? [`--${prefix}no-creds`]
      : [`--${prefix}creds=${credentials.username}:${credentials.password}`]),
  ];
}

async function readConfig(layout: string): Promise<ImageConfig> {
  const readJson = async (file: string): Promise<unknown> =>
    JSON.parse(await readFile(path.join(layout, file), "utf8"));
  const blob = ({ digest }: { digest: string }): string => `blobs/${digest.replace(":", "/")}`;
  const index = (await readJson("index.json")) as { manifests: [{ digest: string }] };
  const manifest = (await readJson(blob(index.manifests[0]))) as { config: { digest: string } };
  const { config } = (await readJson(blob(manifest.config))) as { config?: ImageConfig };
  return config ?? {};
}

/** `domain/repository:tag` of a reference as Docker writes it. */
export function qualifiedReference(reference: string): string {
  const [first = "", ...rest] = reference.split("/");
  const hasDomain = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  const named = hasDomain ? reference : `docker.io/${rest.length > 0 ? reference : `library/${reference}`}`;
  return /[:@][^/]*$/.test(named.slice(named.indexOf("/"))) ? named : `${named}:latest`;
}
