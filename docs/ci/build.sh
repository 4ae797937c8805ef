#!/bin/sh
# A build for any system that runs a script: in a container without privileges, or as an ordinary
# user of a machine. Needs kiln in the PATH; IMAGE is the name to push to, TAG its tag.
set -eu
: "${IMAGE:?the name to push to}" "${TAG:=latest}"
kiln doctor
kiln build . --push \
  --tag "$IMAGE:$TAG" \
  --cache-from "type=registry,ref=$IMAGE/cache" \
  --cache-to "type=registry,ref=$IMAGE/cache,mode=max" \
  --metadata-file metadata.json
