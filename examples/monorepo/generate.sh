#!/bin/sh
# Writes the specs of a number of services (default 50) into the folder
# environments of DIR: generate.sh DIR [COUNT]
set -eu
dir=$1 count=${2:-50}
mkdir -p "$dir/environments"
cat > "$dir/environments/blueprint.yaml" <<'END'
apiVersion: holdfast.dev/v1alpha1
kind: Blueprint
metadata: {name: service}
spec:
  path: service
  namespace: monorepo
  parameters:
    service: {pattern: "[a-z][a-z0-9-]*"}
END
for i in $(seq 1 "$count"); do
	cat > "$dir/environments/service-$i.yaml" <<END
apiVersion: holdfast.dev/v1alpha1
kind: Environment
metadata: {name: service-$i}
spec:
  extends: service
  with: {service: service-$i}
  commonLabels: {team: team-$((i % 7))}
END
done
# The namespace belongs to all of them, so it is an environment of its own.
mkdir -p "$dir/shared"
printf 'apiVersion: v1\nkind: Namespace\nmetadata: {name: monorepo}\n' > "$dir/shared/namespace.yaml"
cat > "$dir/environments/shared.yaml" <<'END'
apiVersion: holdfast.dev/v1alpha1
kind: Environment
metadata: {name: monorepo-shared}
spec: {path: shared}
END
