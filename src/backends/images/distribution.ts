/** `/distribution/{name}/json`: an image as described by manifest and configuration in its registry. */
import { create } from "@bufbuild/protobuf";

import { forbidden, notFound, systemError, unauthorized } from "../../common/errors.ts";
import { type Platform, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { parseImageConfig } from "./image-config.ts";
import { type Descriptor, mostValues, parseManifest } from "./manifest.ts";
import { type NamedReference, parseNamed, withDefaultTag } from "./reference.ts";
import type { Credentials } from "./registry/credentials.ts";
import { Registry, type RegistryOptions } from "./registry/registry.ts";
import { RegistryRefusal, RegistryUnreachable } from "./registry/registry-errors.ts";
import type { KnownCredentials } from "./known-credentials.ts";

/** An image, or an index of several, in a registry. */
export interface DistributedImage {
  readonly digest: string;
  readonly mediaType: string;
  /** Bytes of the manifest. */
  readonly size: number;
  readonly platforms: readonly Platform[];
}

/** Queries registries about images that need not exist here. */
export class Distribution {
  readonly #credentials: KnownCredentials;
  readonly #options: RegistryOptions;

  constructor(credentials: KnownCredentials, options: RegistryOptions) {
    this.#credentials = credentials;
    this.#options = options;
  }

  /**
   * Queries the registry of a reference.
   *
   * @param given the client's credentials
   * @throws not-found, unauthorized, forbidden: in the registry's words; invalid: not a reference, or not an image's
   *   manifest; system: the registry's failure
   */
  async inspect(
    reference: string,
    given: Credentials | undefined,
    signal: AbortSignal,
  ): Promise<DistributedImage> {
    const named = withDefaultTag(parseNamed(reference));
    const credentials = await this.#credentials.ofRequest(named, given);
    return await inspectDistribution(named, credentials, this.#options, signal);
  }
}

async function inspectDistribution(
  named: NamedReference,
  credentials: Credentials | undefined,
  options: RegistryOptions,
  signal: AbortSignal,
): Promise<DistributedImage> {
  try {
    using registry = await Registry.connect(named.domain, credentials, options, signal);
    const { bytes, digest, mediaType } = await registry.manifest(
      named.path,
      named.digest ?? named.tag ?? "",
      signal,
    );
    const document = parseManifest(bytes, mediaType);
    const platformOfConfig = async (config: string): Promise<Platform> =>
      parseImageConfig(await registry.config(named.path, config, signal), mostValues).platform;
    const platforms =
      document.kind === "index"
        ? document.index.manifests.map(({ platform }) => platformOf(platform))
        : [await platformOfConfig(document.manifest.config.digest)];
    return { digest, mediaType: document.mediaType, size: bytes.length, platforms };
  } catch (error) {
    signal.throwIfAborted();
    throw inspectionError(error);
  }
}

function platformOf(platform: Descriptor["platform"]): Platform {
  const { os = "", architecture = "", variant } = platform ?? {};
  return create(PlatformSchema, { os, architecture, variant: variant ?? "" });
}

/** Converts errors as moby does, which assigns an HTTP status to each code of the Distribution specification. */
function inspectionError(error: unknown): unknown {
  if (error instanceof RegistryRefusal) {
    const { code, message } = error;
    switch (code) {
      case "MANIFEST_UNKNOWN":
      case "NAME_UNKNOWN":
        return notFound(message, error);
      case "DENIED":
        return forbidden(message, error);
      default:
        return error.status === 401 ? unauthorized(message, error) : systemError(message, error);
    }
  }
  return error instanceof RegistryUnreachable ? systemError(error.message, error) : error;
}
