/** A stand-in of the API server, for tests of what calls it. */
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

import type { Clock } from "../../../common/clock.ts";
import { KubernetesClient } from "../api/client.ts";

/** A server that answers for the API server, and a client of it in the namespace `docker`. Disposing ends both. */
export async function standIn(
  answer: RequestListener,
  clock: Clock,
): Promise<AsyncDisposable & { readonly client: KubernetesClient }> {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const directory = await mkdtemp(path.join(tmpdir(), "sockerless-kubernetes-"));
  const kubeconfig = path.join(directory, "kubeconfig");
  const cluster = { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true };
  const config = {
    "current-context": "here",
    clusters: [{ name: "here", cluster }],
    users: [{ name: "me", user: {} }],
    contexts: [{ name: "here", context: { cluster: "here", user: "me" } }],
  };
  await writeFile(kubeconfig, JSON.stringify(config));
  const client = new KubernetesClient({ kubeconfig, context: undefined, namespace: "docker" }, clock);
  return {
    client,
    async [Symbol.asyncDispose]() {
      client.abandon();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      await rm(directory, { recursive: true });
    },
  };
}
