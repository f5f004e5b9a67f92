/** Tags of a repository in ACR, and their removal together with untagged manifests. */
import * as v from "valibot";

import { object, read } from "../../../common/documents.ts";
import type { OwnRepository } from "../../cloud/images/own-repository.ts";

const tagsSchema = object({ tags: v.nullish(v.array(object({ name: v.string() }))) });

/** All tags of a repository. */
export async function listTags(repository: OwnRepository, signal: AbortSignal): Promise<readonly string[]> {
  return await repository.connected(signal, (registry) => registry.tags(repository.path, signal));
}

/** Removes a tag, and the image with its last one, as ACR keeps untagged images. No error if the tag is missing. */
export async function removeTag(repository: OwnRepository, tag: string, signal: AbortSignal): Promise<void> {
  const { path } = repository;
  const mayDelete = `repository:${path}:delete`;
  const mayRead = `repository:${path}:metadata_read`;
  await repository.connected(signal, async (registry) => {
    const digest = await repository.digestOf(registry, tag, signal);
    if (digest === undefined) {
      return;
    }
    const remove = (target: string): Promise<void> =>
      repository.needing("the role AcrDelete", () => registry.remove(target, mayDelete, signal));
    await remove(`/acr/v1/${path}/_tags/${tag}`);
    const others = await registry.document(`/acr/v1/${path}/_tags?digest=${digest}&n=2`, mayRead, signal);
    const isNamed = (read(tagsSchema, others).value?.tags ?? []).some(({ name }) => name !== tag);
    if (!isNamed) {
      await remove(`/v2/${path}/manifests/${digest}`);
    }
  });
}
