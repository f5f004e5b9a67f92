import { once } from "node:events";
import { createServer } from "node:net";

/** A port of loopback that nothing listens on, and that the kernel gives to nobody who asks for any. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const server = createServer();
    const isListening = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    server.close();
    if (isListening) {
      await once(server, "close");
      return port;
    }
  }
}
