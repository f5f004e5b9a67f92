/** Adds the layers that a container's files lack before its next step. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { ArchivePutRequestSchema } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ImageSource } from "../../../driver/image-source.ts";
import type { AgentLink } from "../live/agent-link.ts";

/** Time limit for one layer. */
const putTimeoutMs = 600_000;

/**
 * Has the agent unpack the top layers of an image in the container, in which nothing runs.
 *
 * @throws the errors of opening the layers and of the agent's call; the signal's reason
 */
export async function putLayers(
  images: Pick<ImageSource, "openLayers">,
  { agent: { client } }: Pick<AgentLink, "agent">,
  { imageId, count }: { readonly imageId: string; readonly count: number },
  signal: AbortSignal,
): Promise<void> {
  await using opened = await images.openLayers(imageId, signal);
  for (const layer of opened.layers.slice(opened.layers.length - count)) {
    await client.archivePut(requestsOf(layer.open()), { timeoutMs: putTimeoutMs, signal });
  }
}

async function* requestsOf(
  layer: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageInitShape<typeof ArchivePutRequestSchema>> {
  yield { message: { case: "open", value: { path: "/", layer: true } } };
  let offset = 0n;
  for await (const data of layer) {
    yield { message: { case: "chunk", value: { offset, data } } };
    offset += BigInt(data.length);
  }
  yield { message: { case: "end", value: { totalBytes: offset } } };
}
