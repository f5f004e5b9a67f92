/** `sockerless.backend.v1.ImageService`: the images' RPC service. The server converts errors. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";

import { invalid, systemError } from "../../common/errors.ts";
import {
  ImageService,
  type LoadImageRequest,
  type LoadImageResponseSchema,
  type ImportImageFromUrlResponseSchema,
  type ImportImageRequest,
  type ImportOpen,
  ImportOpenSchema,
  type LoadOpen,
  type ProgressSchema,
  type PullImageResponseSchema,
  type PushImageResponseSchema,
  type ReceiveArchiveResponseSchema,
  type ReceiveImageResponseSchema,
  type ReceiveLayerResponseSchema,
  type RemovedImage,
  RemovedImageSchema,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import {
  type AgentAccess,
  type AgentEndpointSchema,
  AgentReach,
} from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { UploadPlace } from "./layer-upload.ts";
import type { Images } from "./images.ts";
import type { PushedImage } from "./push.ts";
import type { ProgressLine, ReportProgress } from "./progress.ts";
import { progressStream } from "./progress-stream.ts";
import type { RemovedEntry } from "./remove-images.ts";

/** Serves images. */
export function registerImageService(router: ConnectRouter, images: Images): void {
  const { catalog, removal, pulls, pushes, archives, imports, distribution } = images;
  const isDirect = (access: AgentAccess | undefined) =>
    archives.takesUploads && access?.reach === AgentReach.LOCAL;
  router.service(ImageService, {
    async *pullImage(request, { signal }): AsyncGenerator<MessageInitShape<typeof PullImageResponseSchema>> {
      const { reference, platform, auth, allTags, client, withoutOwnAuth } = request;
      const stream = progressStream((report, ended) => {
        const wanted = { reference, platform, auth, client, withoutOwnAuth, report, signal: ended };
        return allTags ? pulls.pullAllTags(wanted) : pulls.pull(wanted);
      }, signal);
      const end = yield* progressMessages(stream);
      yield { message: { case: "end", value: end ?? {} } };
    },

    async *pushImage(
      { reference, platform, auth, client },
      { signal },
    ): AsyncGenerator<MessageInitShape<typeof PushImageResponseSchema>> {
      let last: PushedImage | undefined;
      for (const each of pushes.referencesOf(reference)) {
        const request = { reference: each, platform, auth, client, announce: last === undefined };
        last = yield* progressMessages(
          progressStream((report, ended) => pushes.push({ ...request, report, signal: ended }), signal),
        );
        yield { message: { case: "pushed", value: last } };
      }
      yield { message: { case: "end", value: last ?? {} } };
    },

    async *loadImage(requests, { signal }): AsyncGenerator<MessageInitShape<typeof LoadImageResponseSchema>> {
      const upload = await opened<LoadImageRequest, LoadOpen>(requests);
      const stream = progressStream(
        (report, ended) =>
          archives.load({
            archive: upload.chunks,
            platform: upload.open.platform,
            ofBuild: upload.open.ofBuild,
            report,
            signal: ended,
          }),
        signal,
      );
      const loaded = yield* progressMessages(stream);
      for (const each of loaded) {
        yield { message: { case: "loaded", value: each } };
      }
      yield { message: { case: "end", value: {} } };
    },

    async *receiveArchive(
      { open, access },
      { signal },
    ): AsyncGenerator<MessageInitShape<typeof ReceiveArchiveResponseSchema>> {
      if (!isDirect(access)) {
        yield { message: { case: "ready", value: {} } };
        return;
      }
      const place = Promise.withResolvers<UploadPlace>();
      const left = new AbortController();
      const { platform, ofBuild = false } = open ?? {};
      let report: ReportProgress = () => {}; // Nothing is reported before the address is known.
      const received = archives.receive(place.resolve, {
        platform,
        ofBuild,
        report: (line) => report(line),
        signal: AbortSignal.any([signal, left.signal]),
      });
      received.catch(place.reject);
      try {
        yield { message: { case: "ready", value: { endpoint: endpointOf(await place.promise) } } };
        const stream = progressStream((reportLine) => {
          report = reportLine;
          return received;
        }, signal);
        for (const each of yield* progressMessages(stream)) {
          yield { message: { case: "loaded", value: each } };
        }
        yield { message: { case: "end", value: {} } };
      } finally {
        left.abort();
        await received.catch(() => {});
      }
    },

    async *receiveLayer(
      { access },
      { signal },
    ): AsyncGenerator<MessageInitShape<typeof ReceiveLayerResponseSchema>> {
      if (!isDirect(access)) {
        yield { message: { case: "ready", value: {} } };
        return;
      }
      const place = Promise.withResolvers<UploadPlace>();
      const diffId = Promise.withResolvers<string>();
      const left = new AbortController();
      const ended = AbortSignal.any([signal, left.signal]);
      const received = archives.receiveLayer(place.resolve, diffId.resolve, ended);
      const failed = received.catch((error: unknown) => {
        place.reject(error);
        diffId.reject(error);
      });
      diffId.promise.catch(() => {}); // A client that has left does not await it.
      try {
        yield { message: { case: "ready", value: { endpoint: endpointOf(await place.promise) } } };
        yield { message: { case: "taken", value: { diffId: await diffId.promise } } };
        await received;
      } finally {
        left.abort();
        await failed;
      }
    },

    async importImage(requests, { signal }) {
      const { open, chunks } = await opened<ImportImageRequest, ImportOpen>(requests);
      const { reference, comment, changes, platform } = open;
      const imageId = await imports.fromStream({
        archive: chunks,
        reference,
        comment,
        changes,
        platform,
        signal,
      });
      return { imageId };
    },

    async *receiveImage(
      { image, access },
      { signal },
    ): AsyncGenerator<MessageInitShape<typeof ReceiveImageResponseSchema>> {
      if (!isDirect(access)) {
        yield { message: { case: "ready", value: {} } };
        return;
      }
      const { reference, comment, changes, platform } = image ?? create(ImportOpenSchema);
      const left = new AbortController();
      const ended = AbortSignal.any([signal, left.signal]);
      const upload = await imports.fromUpload({ reference, comment, changes, platform, signal: ended });
      try {
        yield { message: { case: "ready", value: { endpoint: endpointOf(upload) } } };
        const imageId = yield* progressMessages(progressStream(() => upload.imageId, signal));
        yield { message: { case: "end", value: { imageId } } };
      } finally {
        left.abort();
        await upload.imageId.catch(() => {});
      }
    },

    async *importImageFromUrl(
      { image, url },
      { signal },
    ): AsyncGenerator<MessageInitShape<typeof ImportImageFromUrlResponseSchema>> {
      const { reference, comment, changes, platform } = image ?? create(ImportOpenSchema);
      const stream = progressStream(
        (report, ended) =>
          imports.fromUrl({ url, reference, comment, changes, platform, report, signal: ended }),
        signal,
      );
      const imageId = yield* progressMessages(stream);
      yield { message: { case: "end", value: { imageId } } };
    },

    async inspectDistribution({ reference, auth }, { signal }) {
      const { size, platforms, ...rest } = await distribution.inspect(reference, auth, signal);
      return { ...rest, size: BigInt(size), platforms: [...platforms] };
    },

    async tagImage({ source, target }) {
      await catalog.tag(source, target);
      return {};
    },

    listImages: async (request, { signal }) => ({ images: await catalog.list(request, signal) }),

    inspectImage: ({ image, platform }) => ({ image: catalog.inspect(image, platform) }),

    getImageConfig: async ({ image }) => ({ config: await archives.configOf(image) }),

    getImageHistory: ({ image, platform }) => ({ entries: catalog.history(image, platform) }),

    async *saveImages({ references, platform, access }, { signal }) {
      if (access?.reach === AgentReach.LOCAL) {
        for await (const place of archives.offer(references, platform, signal)) {
          yield { message: { case: "ready" as const, value: { endpoint: endpointOf(place) } } };
        }
      }
      let totalBytes = 0n;
      for await (const chunk of archives.save(references, platform, signal)) {
        totalBytes += BigInt(chunk.length);
        if (chunk.length > 0) {
          yield { message: { case: "chunk" as const, value: chunk } };
        }
      }
      yield { message: { case: "end" as const, value: { totalBytes } } };
    },

    async pruneImages({ filters }, { signal }) {
      const { removed, spaceReclaimed } = await removal.prune(filters, signal);
      return { removed: removed.map(wiredEntry), spaceReclaimed };
    },

    async removeImage({ image, force, noPrune, platform, ofBuild }) {
      const removed = await removal.remove(image, force, noPrune, platform, ofBuild);
      return { removed: removed.map(wiredEntry) };
    },
  });
}

/** @throws system if a frontend on this machine could not reach it */
function endpointOf({ address, uploadId }: UploadPlace): MessageInitShape<typeof AgentEndpointSchema> {
  if (address.kind !== "unix") {
    throw systemError("uploads are only accepted on this machine");
  }
  return { address: { case: "unixPath", value: address.path }, containerId: uploadId };
}

function wiredEntry(entry: RemovedEntry): RemovedImage {
  return create(RemovedImageSchema, {
    what:
      "untagged" in entry
        ? { case: "untagged", value: entry.untagged }
        : { case: "deleted", value: entry.deleted },
  });
}

type ProgressResponse =
  | {
      readonly message: {
        readonly case: "progress";
        readonly value: MessageInitShape<typeof ProgressSchema>;
      };
    }
  | { readonly message: { readonly case: "heartbeat"; readonly value: Record<never, never> } };

/** Converts progress to messages; returns the work's result. */
async function* progressMessages<T>(
  stream: ReturnType<typeof progressStream<T>>,
): AsyncGenerator<ProgressResponse, T> {
  try {
    for (;;) {
      const next = await stream.next();
      if (next.done === true) {
        return next.value;
      }
      yield next.value.kind === "heartbeat"
        ? { message: { case: "heartbeat", value: {} } }
        : { message: { case: "progress", value: progressOf(next.value.lines) } };
    }
  } finally {
    await stream.return(undefined as never);
  }
}

function progressOf([{ id, status, current = 0, total = 0 }, ...more]: readonly [
  ProgressLine,
  ...ProgressLine[],
]): MessageInitShape<typeof ProgressSchema> {
  const lines = more.map((line) => progressOf([line]));
  return { id, status, current: BigInt(current), total: BigInt(total), more: lines };
}

interface UploadMessage<Open> {
  readonly message:
    | { readonly case: "open"; readonly value: Open }
    | { readonly case: "chunk"; readonly value: Uint8Array }
    | { readonly case: "end"; readonly value: unknown }
    | { readonly case: undefined; readonly value?: undefined };
}

/** Reads the opening message of an upload; the chunks fail if the stream ends without `end`. */
async function opened<Message extends UploadMessage<Open>, Open>(
  requests: AsyncIterable<Message>,
): Promise<{ readonly open: Open; readonly chunks: AsyncIterable<Uint8Array> }> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true || first.value.message.case !== "open") {
    throw invalid("the first message must be open");
  }
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = await iterator.next();
      if (next.done === true) {
        throw invalid("unexpected EOF");
      }
      const { message } = next.value;
      if (message.case === "end") {
        return;
      }
      if (message.case !== "chunk") {
        throw invalid("only chunks and end may follow open");
      }
      yield message.value;
    }
  }
  return { open: first.value.message.value, chunks: chunks() };
}
