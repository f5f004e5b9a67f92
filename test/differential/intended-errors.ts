/**
 * The errors that are meant to differ from those of dockerd 20.10, each pinned to its calls and both texts, by the heading in
 * docs/differences.md. `*` in place of a container is any of those of the test, in the texts too.
 */

/** One: our status and text, dockerd's, and the calls that are answered so. */
export interface IntendedError {
  readonly ours: string;
  /** `…` at its end: what follows depends on the machine. */
  readonly theirs: string;
  readonly calls: readonly string[];
}

export const intendedErrors: Readonly<Record<string, readonly IntendedError[]>> = {
  "What cannot be read is the client's error": [
    {
      ours: '400 strconv.ParseInt: parsing "x": invalid syntax',
      theirs: '500 strconv.ParseInt: parsing "x": invalid syntax',
      calls: ["GET /events?since=x", "GET /containers/*/logs?stdout=1&since=x"],
    },
    {
      ours: "400 invalid filter",
      theirs: "500 invalid character 'o' in literal null (expecting 'u')",
      calls: [
        "GET /events?until=2&filters=notjson",
        "GET /containers/json?filters=notjson",
        "GET /images/json?filters=notjson",
        "POST /images/prune?filters=notjson",
        "GET /networks?filters=notjson",
      ],
    },
    {
      ours: "400 invalid JSON: unexpected EOF",
      theirs: "500 unexpected EOF",
      calls: ["POST /auth", "POST /containers/create"],
    },
    {
      ours: '400 invalid value for limit: strconv.Atoi: parsing "x": invalid syntax',
      theirs: '500 strconv.Atoi: parsing "x": invalid syntax',
      calls: ["GET /containers/json?limit=x"],
    },
    {
      ours: "400 invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
      theirs: '500 strconv.Atoi: parsing "x": invalid syntax',
      calls: ['GET /containers/json?all=1&filters={"exited":["x"]}'],
    },
    {
      ours: "400 error while looking up for publish x: invalid port range: x",
      theirs: '500 error while looking up for publish x: strconv.ParseUint: parsing "x": invalid syntax',
      calls: ['GET /containers/json?all=1&filters={"publish":["x"]}'],
    },
    {
      ours: "400 invalid filter",
      theirs: "500 json: cannot unmarshal string into Go value of type map[string]bool",
      calls: ['GET /containers/json?all=1&filters={"status":"running"}'],
    },
    {
      ours: "400 invalid filter",
      theirs: "500 json: cannot unmarshal array into Go value of type map[string]map[string]bool",
      calls: ["GET /containers/json?filters=[]"],
    },
    {
      ours: '400 invalid value for t: strconv.Atoi: parsing "x": invalid syntax',
      theirs: '500 strconv.Atoi: parsing "x": invalid syntax',
      calls: ["POST /containers/*/stop?t=x"],
    },
    {
      ours: "400 extraction point is not a directory",
      theirs: "500 extraction point is not a directory",
      calls: ["PUT /containers/*/archive?path=/etc/passwd"],
    },
    {
      ours: "400 cannot kill container: *: the linux daemon does not support signal 99",
      theirs: "500 Cannot kill container: *: The linux daemon does not support signal 99",
      calls: ["POST /containers/*/kill?signal=99"],
    },
    {
      ours: "400 invalid JSON: got EOF while reading request body",
      theirs: "500 EOF",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Config.Image of type string",
      theirs:
        "500 json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Image of type string",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Config.Cmd of type string",
      theirs:
        "500 json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Cmd of type string",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Config.Env of type []string",
      theirs:
        "500 json: cannot unmarshal string into Go struct field ContainerConfigWrapper.Env of type []string",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.HostConfig.Memory of type int64",
      theirs:
        "500 json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid volume specification: '/tmp:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
      theirs:
        "500 invalid volume specification: '/tmp:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
      calls: ["POST /containers/create?name=roots"],
    },
    {
      ours: "400 invalid volume specification: '/tmp:mnt': invalid mount config for type \"bind\": invalid mount path: 'mnt' mount path must be absolute",
      theirs:
        "500 invalid volume specification: '/tmp:mnt': invalid mount config for type \"bind\": invalid mount path: 'mnt' mount path must be absolute",
      calls: ["POST /containers/create?name=reltarget"],
    },
    {
      ours: "400 invalid mode: nonsense",
      theirs: "500 invalid mode: nonsense",
      calls: ["POST /containers/create?name=badmode"],
    },
    {
      ours: "400 invalid volume specification: '/a:/b:ro:x'",
      theirs: "500 invalid volume specification: '/a:/b:ro:x'",
      calls: ["POST /containers/create?name=manycolons"],
    },
    {
      ours: '400 invalid --security-opt 1: "nonsense"',
      theirs: '500 invalid --security-opt 1: "nonsense"',
      calls: ["POST /containers/create?name=securityopt"],
    },
    {
      ours: "400 invalid isolation (hyperv): linux only supports 'default'",
      theirs: "500 Invalid isolation: \"hyperv\" - linux only supports 'default'",
      calls: ["POST /containers/create?name=isolation"],
    },
    {
      ours: "400 syntax error in pattern",
      theirs: "500 syntax error in pattern",
      calls: ['GET /images/json?filters={"reference":["["]}'],
    },
    {
      ours: "400 invalid reference format: repository name (library/BAD) must be lowercase",
      theirs: "500 invalid reference format: repository name must be lowercase",
      calls: ["POST /images/busybox/tag?repo=BAD", "POST /commit?container=created&repo=BAD"],
    },
    {
      ours: "400 invalid tag format",
      theirs: "500 invalid tag format",
      calls: ["POST /images/busybox/tag?repo=other&tag=-bad"],
    },
    {
      ours: "400 invalid reference format",
      theirs: "500 invalid reference format",
      calls: ["POST /images/busybox/tag"],
    },
    {
      ours: "400 unexpected EOF",
      theirs: "500 Error processing tar file(exit status 1): unexpected EOF",
      calls: ["POST /images/create?fromSrc=-&repo=imported"],
    },
    {
      ours: "400 Cannot locate specified Dockerfile: Dockerfile",
      theirs: "500 Cannot locate specified Dockerfile: Dockerfile",
      calls: ["POST /build"],
    },
    {
      ours: "400 invalid filter: 'type'='x'",
      theirs: "500 invalid filter: 'type'='x'",
      calls: ['GET /networks?filters={"type":["x"]}'],
    },
    {
      ours: '400 keep-storage is in bytes and expects an integer, got plenty: strconv.Atoi: parsing "plenty": invalid syntax',
      theirs:
        '500 keep-storage is in bytes and expects an integer, got plenty: strconv.Atoi: parsing "plenty": invalid syntax',
      calls: ["POST /build/prune?keep-storage=plenty"],
    },
    {
      ours: '400 failed to prune build cache: "until" filter expects a duration (e.g., \'24h\') or a timestamp: failed to parse value as time or duration: "soon"',
      theirs:
        '500 failed to prune build cache: "until" filter expects a duration (e.g., \'24h\'): time: invalid duration "soon"',
      calls: ['POST /build/prune?filters={"until":["soon"]}'],
    },
    {
      ours: "400 Conflict, cannot remove the default link name of the container",
      theirs: "500 Conflict, cannot remove the default link name of the container",
      calls: ["DELETE /containers/running?link=1"],
    },
    {
      ours: '400 failed to parse value as time or duration: "x"',
      theirs: '500 failed to parse value as time or duration: "x"',
      calls: ['POST /containers/prune?filters={"until":["x"]}'],
    },
  ],
  "Texts are those of moby 28": [
    {
      ours: "400 unknown or invalid runtime name: nonsense",
      theirs: "400 Unknown runtime specified nonsense",
      calls: ["POST /containers/create?name=runtime"],
    },
    {
      ours: "400 invalid filter 'status=nonsense': invalid value for state (nonsense): must be one of created, running, paused, restarting, removing, exited, dead",
      theirs: "400 Invalid filter 'status=nonsense'",
      calls: ['GET /containers/json?all=1&filters={"status":["nonsense"]}'],
    },
    {
      ours: "400 invalid filter 'health=nonsense': invalid value for health (nonsense): must be one of none, starting, healthy, unhealthy",
      theirs: "400 Unrecognised filter value for health: nonsense",
      calls: ['GET /containers/json?all=1&filters={"health":["nonsense"]}'],
    },
    {
      ours: "400 invalid filter 'is-task=[x]'",
      theirs: "400 Invalid filter 'is-task=[x]'",
      calls: ['GET /containers/json?all=1&filters={"is-task":["x"]}'],
    },
    {
      ours: "400 invalid filter 'nonsense'",
      theirs: "400 Invalid filter 'nonsense'",
      calls: [
        'GET /containers/json?all=1&filters={"nonsense":["x"]}',
        'GET /images/json?filters={"nonsense":["x"]}',
        'POST /images/prune?filters={"nonsense":["x"]}',
        'GET /volumes?filters={"nonsense":["x"]}',
        'POST /networks/prune?filters={"nonsense":["x"]}',
        'POST /volumes/prune?filters={"nonsense":["x"]}',
        'POST /containers/prune?filters={"nonsense":["x"]}',
      ],
    },
    {
      ours: '400 invalid resize width "": invalid syntax',
      theirs: '400 strconv.Atoi: parsing "": invalid syntax',
      calls: ["POST /containers/*/resize?h=1"],
    },
    {
      ours: '400 invalid resize height "x": invalid syntax',
      theirs: '400 strconv.Atoi: parsing "x": invalid syntax',
      calls: ["POST /containers/*/resize?h=x&w=1"],
    },
    {
      ours: "400 cannot kill container: *: invalid signal: nonsense",
      theirs: "400 Invalid signal: nonsense",
      calls: ["POST /containers/*/kill?signal=nonsense"],
    },
    {
      ours: "400 cannot kill container: *: invalid signal: 0",
      theirs: "400 Invalid signal: 0",
      calls: ["POST /containers/*/kill?signal=0"],
    },
    {
      ours: "400 invalid JSON: unexpected EOF",
      theirs: "400 unexpected EOF",
      calls: ["POST /containers/*/exec", "POST /exec/missing/start", "POST /volumes/create"],
    },
    {
      ours: "400 invalid JSON: json: cannot unmarshal string into Go struct field ExecOptions.Cmd of type []string",
      theirs: "400 json: cannot unmarshal string into Go struct field ExecConfig.Cmd of type []string",
      calls: ["POST /containers/*/exec"],
    },
    {
      ours: "500 archive/tar: invalid tar header",
      theirs: "500 Error processing tar file(exit status 1): archive/tar: invalid tar header",
      calls: ["PUT /containers/*/archive?path=/tmp"],
    },
    {
      ours: "400 invalid restart policy: unknown policy 'nonsense'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
      theirs: "400 invalid restart policy 'nonsense'",
      calls: ["POST /containers/*/update", "POST /containers/create?name=badrestart"],
    },
    {
      ours: "409 container <id> is not running",
      theirs: "409 Container <id> is not running",
      calls: [
        "GET /containers/*/top",
        "GET /containers/*/top?ps_args=-z",
        "POST /containers/*/resize?h=10&w=10",
        "POST /containers/*/exec",
        "POST /containers/*/pause",
      ],
    },
    {
      ours: "409 exec command <id> is already running",
      theirs: "409 Error: Exec command <id> is already running",
      calls: ["POST /exec/{id}/start"],
    },
    {
      ours: "400 config cannot be empty in order to create a container",
      theirs: "400 Config cannot be empty in order to create a container",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 no command specified",
      theirs: "400 No command specified",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid reference format: repository name (library/NOT VALID) must be lowercase",
      theirs: "400 invalid reference format: repository name must be lowercase",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 unsupported Content-Type header (text/plain): must be 'application/json'",
      theirs: "400 Content-Type specified (text/plain) must be 'application/json'",
      calls: ["POST /containers/create"],
    },
    {
      ours: "400 invalid signal: SIGNONSENSE",
      theirs: "400 Invalid signal: SIGNONSENSE",
      calls: ["POST /containers/create?name=signal"],
    },
    {
      ours: "400 range of CPUs is from 0.01 to <n>, as there are only <n> CPUs available",
      theirs: "400 Range of CPUs is from 0.01 to <n>, as there are only <n> CPUs available",
      calls: ["POST /containers/create?name=manycpus"],
    },
    {
      ours: "400 invalid restart policy: maximum retry count can only be used with 'on-failure'",
      theirs: "400 maximum retry count cannot be used with restart policy 'always'",
      calls: ["POST /containers/create?name=badcount"],
    },
    {
      ours: "400 invalid restart policy: maximum retry count cannot be negative",
      theirs: "400 maximum retry count cannot be negative",
      calls: ["POST /containers/create?name=negativecount"],
    },
    {
      ours: '400 failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/not/there": stat /not/there: no such file or directory: unknown',
      theirs:
        '400 failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/not/there": stat /not/there: no such file or directory: unknown',
      calls: ["POST /containers/notfound/start"],
    },
    {
      ours: "404 failed to set up container networking: network missing-network not found",
      theirs: "404 network missing-network not found",
      calls: ["POST /containers/nonet/start"],
    },
    {
      ours: "500 joining network namespace of container: No such container: missing",
      theirs: "404 No such container: missing",
      calls: ["POST /containers/joinself/start"],
    },
    {
      ours: "400 invalid filter 'dangling=[x]'",
      theirs: "400 Invalid filter 'dangling=[x]'",
      calls: [
        'GET /images/json?filters={"dangling":["x"]}',
        'POST /images/prune?filters={"dangling":["x"]}',
        'GET /volumes?filters={"dangling":["x"]}',
      ],
    },
    {
      ours: "404 No such image: missing:latest",
      theirs: "404 no such image: missing: No such image: missing:latest",
      calls: ["GET /images/missing/json"],
    },
    {
      ours: "400 invalid reference format: repository name (library/BAD) must be lowercase",
      theirs: "400 no such image: BAD: invalid reference format: repository name must be lowercase",
      calls: ["GET /images/BAD/json"],
    },
    {
      ours: "404 No such image: sha256:0000",
      theirs: "404 no such image: sha256:0000: No such image: sha256:0000",
      calls: ["GET /images/sha256:0000/json"],
    },
    {
      ours: "404 No such image: missing:latest",
      theirs: "404 No such image: missing",
      calls: ["GET /images/missing/get", "GET /images/get?names=missing"],
    },
    {
      ours: "400 invalid reference format: repository name (library/BAD) must be lowercase",
      theirs: "400 invalid reference format: repository name must be lowercase",
      calls: [
        "DELETE /images/BAD",
        "POST /images/create?fromImage=BAD&tag=latest",
        "POST /images/create?fromSrc=-&repo=BAD",
      ],
    },
    {
      ours: "400 NONSENSE is not a valid change command",
      theirs: "400 nonsense is not a valid change command",
      calls: [
        "POST /commit?container=exited&changes=NONSENSE x",
        "POST /images/create?fromSrc=-&repo=imported&changes=NONSENSE x",
      ],
    },
    {
      ours: "400 error reading volume filters: invalid filter",
      theirs: "400 error reading volume filters: invalid character 'o' in literal null (expecting 'u')",
      calls: ["GET /volumes?filters=notjson"],
    },
    {
      ours: "400 failed to prune build cache: invalid filter 'nonsense'",
      theirs: "400 failed to prune build cache: Invalid filter 'nonsense'",
      calls: ['POST /build/prune?filters={"nonsense":["x"]}'],
    },
    {
      ours: '409 cannot remove container "running": container is running: stop the container before removing or force remove',
      theirs:
        "409 You cannot remove a running container <id>. Stop the container before attempting removal or force remove",
      calls: ["DELETE /containers/running"],
    },
    {
      ours: "409 cannot kill container: *: container <id> is not running",
      theirs: "409 Cannot kill container: *: Container <id> is not running",
      calls: ["POST /containers/*/kill"],
    },
    {
      ours: "400 invalid filter",
      theirs: "400 invalid character 'o' in literal null (expecting 'u')",
      calls: ["POST /containers/prune?filters=notjson"],
    },
  ],
  "What is not built is refused by name": [
    {
      ours: '501 sockerless: docker search is not implemented by backend "local"',
      theirs: '500 Get "https://index.docker.io/…',
      calls: ["GET /images/search"],
    },
  ],
  "A request is checked before its container is looked for": [
    {
      ours: '400 strconv.ParseInt: parsing "x": invalid syntax',
      theirs: "404 No such container: *",
      calls: ["GET /containers/*/logs?stdout=1&since=x"],
    },
    {
      ours: "400 cannot kill container: *: the linux daemon does not support signal 99",
      theirs: "404 Cannot kill container: *: No such container: *",
      calls: ["POST /containers/*/kill?signal=99"],
    },
    {
      ours: "400 Minimum memory limit allowed is 6MB",
      theirs: "404 No such container: *",
      calls: ["POST /containers/*/update"],
    },
    {
      ours: "400 invalid restart policy: unknown policy 'nonsense'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
      theirs: "404 No such container: *",
      calls: ["POST /containers/*/update"],
    },
  ],
  "Unknown words are refused": [
    {
      ours: "400 invalid filter 'nonsense'",
      theirs: "200",
      calls: ['GET /events?until=2&filters={"nonsense":["x"]}'],
    },
    {
      ours: "400 invalid PID mode: nonsense",
      theirs: "201",
      calls: ["POST /containers/create?name=pidmode"],
    },
    {
      ours: "400 invalid IPC mode: nonsense",
      theirs: "201",
      calls: ["POST /containers/create?name=ipcmode"],
    },
    {
      ours: "400 invalid UTS mode: nonsense",
      theirs: "201",
      calls: ["POST /containers/create?name=utsmode"],
    },
    {
      ours: '400 invalid condition: "nonsense"',
      theirs: "200",
      calls: ["POST /containers/*/wait?condition=nonsense"],
    },
  ],
  "A filter names a container that is not there": [
    {
      ours: "404 No such container: missing",
      theirs: "500 no such container missing",
      calls: [
        'GET /containers/json?all=1&filters={"before":["missing"]}',
        'GET /containers/json?all=1&filters={"since":["missing"]}',
      ],
    },
  ],
  "Options of another type of mount": [
    {
      ours: "201",
      theirs: '400 invalid mount config for type "bind": field VolumeOptions must not be specified',
      calls: ["POST /containers/create?name=volopts"],
    },
  ],
};
