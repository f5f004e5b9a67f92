/** `docker pull` of one tag or of all; concurrent pulls of one reference share their work. */
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageWork } from "./image-work.ts";
import { formatPlatform } from "./platform.ts";
import {
  checkPulled,
  type FinishedPull,
  pulledReference,
  pullImage,
  type PulledImage,
  type PullParts,
  type PullRequest,
  reportStatus,
  reportWarning,
  tagsOf,
} from "./pull.ts";
import { canonicalString, type NamedReference, parseNamed, repositoryName } from "./reference.ts";
import { type Credentials, credentialsFingerprint, isAnonymous } from "./registry/credentials.ts";
import type { KnownCredentials } from "./known-credentials.ts";
import { SharedPulls } from "./shared-pulls.ts";

/** Dependencies of pulls. */
export interface PullsParts extends PullParts {
  readonly credentials: KnownCredentials;
  readonly work: ImageWork;
  /** Default platform of images; absent for this machine's. */
  readonly defaultPlatform: Platform | undefined;
}

export class ImagePulls {
  readonly #parts: PullsParts;
  readonly #shared = new SharedPulls();

  constructor(parts: PullsParts) {
    this.#parts = parts;
  }

  /** Pulls an image; see {@link pullImage}. */
  async pull(request: PullRequest): Promise<PulledImage> {
    const { imageId, digest, isNewer, warning } = await this.#pull(request);
    reportStatus(request.report, isNewer, pulledReference(request.reference));
    reportWarning(request.report, warning);
    return { imageId, digest };
  }

  /**
   * Pulls all tags of a repository, one after the other; a failure does not undo earlier ones.
   *
   * @param request with a name only as reference
   * @returns the last image; undefined if the repository has no tags
   * @throws as {@link pull}
   */
  async pullAllTags(request: PullRequest): Promise<PulledImage | undefined> {
    const { registry } = this.#parts;
    const repository = parseNamed(request.reference);
    checkPulled(repository);
    const auth = await this.#authOf(repository, request);
    const tags = await tagsOf(repository, auth, registry, request.signal);
    let last: PulledImage | undefined;
    let isNewer = false;
    for (const tag of tags) {
      const pulled = await this.#pull({ ...request, reference: `${repositoryName(repository)}:${tag}` });
      reportWarning(request.report, pulled.warning);
      isNewer ||= pulled.isNewer;
      last = { imageId: pulled.imageId, digest: pulled.digest };
    }
    reportStatus(request.report, isNewer, repository);
    return last;
  }

  async #authOf(
    repository: NamedReference,
    { auth, withoutOwnAuth }: PullRequest,
  ): Promise<Credentials | undefined> {
    return withoutOwnAuth === true ? auth : await this.#parts.credentials.ofRequest(repository, auth);
  }

  async #pull(request: PullRequest): Promise<FinishedPull> {
    const { credentials, work, unpacking, defaultPlatform } = this.#parts;
    const named = pulledReference(request.reference);
    const platform = request.platform ?? defaultPlatform;
    const auth = await this.#authOf(named, request);
    const key = [
      canonicalString(named),
      platform === undefined ? "" : formatPlatform(platform),
      credentialsFingerprint(auth),
      request.withoutOwnAuth === true ? "alone" : "",
    ].join(" ");
    const pulled = await this.#shared.join(key, request.report, request.signal, (report, shared) =>
      work.run(shared, (lease, signal) =>
        pullImage(this.#parts, lease, { ...request, platform, auth, report, signal }),
      ),
    );
    if (request.auth !== undefined && !isAnonymous(request.auth) && unpacking.kind === "platform") {
      credentials.remember(named, request.auth);
    }
    return pulled;
  }
}
