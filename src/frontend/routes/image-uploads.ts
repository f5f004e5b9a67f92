/** Images that leave: `docker save` and `docker push`. */
import { once } from "node:events";

import { invalid, systemError } from "../../common/errors.ts";
import { namedReference } from "../convert/image-references.ts";
import { progressToJson } from "../convert/images.ts";
import { platformFromJson } from "../convert/platforms.ts";
import { ProgressStream } from "../progress-stream.ts";
import { text } from "../query.ts";
import { registryAuthFromHeader } from "../registry-auth.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";

/** The routes of images that leave. */
export const imageUploadRoutes: readonly Route[] = [
  { method: "GET", path: "/images/get", answeredBy: builtBackends, handler: getImagesGet },
  { method: "GET", path: "/images/{name}/get", answeredBy: builtBackends, handler: getImagesGet },
  {
    method: "POST",
    path: "/images/{name}/push",
    answeredBy: builtBackends,
    handler: postImagesPush,
  },
];

async function getImagesGet(context: ReplyContext): Promise<void> {
  const { parameters, query, version, signal, services, response } = context;
  const platforms = version.atLeast("1.48") ? query.getAll("platform") : [];
  if (platforms.length > 1) {
    throw invalid("multiple platform parameters not supported");
  }
  const platform = platformFromJson(platforms[0] ?? "");
  const { name } = parameters;
  const messages = services.backend.images.saveImages(
    {
      references: name === undefined ? query.getAll("names") : [name],
      ...(platform === undefined ? {} : { platform }),
    },
    { signal },
  );
  for await (const { message } of messages) {
    if (message.case === "chunk") {
      if (!response.headersSent) {
        response.writeHead(200, { "Content-Type": "application/x-tar" });
      }
      if (!response.write(message.value)) {
        await once(response, "drain", { signal });
      }
    } else if (message.case === "end") {
      response.end();
      return;
    }
  }
  throw systemError("the backend ended a save without its last message");
}

async function postImagesPush(context: ReplyContext): Promise<void> {
  const { request, query, version, signal, services, response } = context;
  const platform = version.atLeast("1.46") ? platformFromJson(text(query, "platform")) : undefined;
  const auth = registryAuthFromHeader(request.headers["x-registry-auth"]);
  const reference = namedReference(context.parameters["name"] ?? "", text(query, "tag"));
  const output = new ProgressStream(response, signal);
  try {
    const messages = services.backend.images.pushImage(
      {
        reference,
        ...(auth === undefined ? {} : { auth }),
        ...(platform === undefined ? {} : { platform }),
      },
      { signal },
    );
    let ended = false;
    for await (const { message } of messages) {
      if (message.case === "progress") {
        await output.write(progressToJson(message.value));
      } else if (message.case === "pushed") {
        const { tag, digest, size } = message.value;
        await output.write({ progressDetail: {}, aux: { Tag: tag, Digest: digest, Size: size } });
      }
      ended ||= message.case === "end";
    }
    if (!ended) {
      throw systemError("the backend ended a push without telling its result");
    }
  } catch (error) {
    if (!output.begun) {
      throw error;
    }
    await output.writeError(error);
  }
  output.end();
}
