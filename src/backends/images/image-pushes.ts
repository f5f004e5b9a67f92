/** `docker push` of one tag or of all. */
import type { ImageCatalog } from "./image-catalog.ts";
import type { ImageWork } from "./image-work.ts";
import type { LayerSupply } from "./layer-supply.ts";
import { type PushedImage, pushImage, type PushParts, type PushRequest } from "./push.ts";
import { parseNamed, repositoryName, withDefaultTag } from "./reference.ts";
import type { KnownCredentials } from "./known-credentials.ts";

/** Dependencies of pushes. */
export interface PushesParts extends PushParts {
  readonly catalog: ImageCatalog;
  readonly credentials: KnownCredentials;
  readonly supply: LayerSupply;
  readonly work: ImageWork;
}

export class ImagePushes {
  readonly #parts: PushesParts;

  constructor(parts: PushesParts) {
    this.#parts = parts;
  }

  /** The references to push, one per tag: a name alone means all of its tags. @throws invalid; as {@link ImageIndex.taggedIn} */
  referencesOf(reference: string): string[] {
    const named = parseNamed(reference);
    if (named.tag !== undefined || named.digest !== undefined) {
      return [reference];
    }
    const repository = repositoryName(named);
    const tagged = this.#parts.index.taggedIn(new Set([repository])).get(repository);
    return tagged?.map(({ name }) => name) ?? [reference];
  }

  /** Pushes an image; see {@link pushImage}. */
  async push(request: PushRequest): Promise<PushedImage> {
    const { catalog, credentials, index, supply, work } = this.#parts;
    if (request.platform !== undefined) {
      catalog.find(request.reference, request.platform);
    }
    const named = withDefaultTag(parseNamed(request.reference));
    const auth = await credentials.ofRequest(named, request.auth);
    return await work.run(request.signal, async (lease, signal) => {
      const record = index.named(named);
      if (record !== undefined) {
        await supply.complete(lease, record, signal);
      }
      return await pushImage(this.#parts, lease, { ...request, auth, signal });
    });
  }
}
