/** The ports of EXPOSE: `80`, `80/udp`, `8000-8010/tcp`. */
import { invalid } from "../../../common/errors.ts";

const maxPort = 65_535;

/**
 * The ports in a specification, each as `80/tcp`.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseExposedPorts(specification: string): string[] {
  const [written = "", protocol = "tcp"] = specification.split("/", 2);
  // Host addresses and ports are valid syntax, but have no effect here.
  const container = written.slice(written.lastIndexOf(":") + 1);
  if (container === "") {
    throw invalid(`no port specified: ${specification}<empty>`);
  }
  const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(container);
  const first = Number(range?.[1]);
  const last = Number(range?.[2] ?? range?.[1]);
  if (range === null || last < first || last > maxPort) {
    throw invalid(`invalid containerPort: ${container}`);
  }
  const lower = (protocol || "tcp").toLowerCase();
  if (!["tcp", "udp", "sctp"].includes(lower)) {
    throw invalid(`invalid proto: ${protocol}`);
  }
  return Array.from({ length: last - first + 1 }, (_, index) => `${first + index}/${lower}`);
}
