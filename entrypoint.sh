#!/usr/bin/env bash
# Starts Ollama and the web app, keeps both running, ends both. In the container, and on a plain machine where there is
# an `ollama`. What a user may set is in the README; app/sizing.py explains the numbers that fit this machine.
set -euo pipefail
trap 'exit 0' TERM INT # first of all: the kernel drops a signal for process 1 that has no trap yet
cd "$(dirname "${BASH_SOURCE[0]}")"

BAKED=${BAKED_MODELS:-/opt/ollama/models} # models that came with the image, read-only
QUICK_DEATHS=5                            # an Ollama that dies this often in a row is not started again
QUICK=60                                  # a death within so many seconds of its start counts
OLLAMA_WAIT=${OLLAMA_WAIT:-15}            # seconds that it has to answer before the app looks for another model
stop=${STOP_SECONDS:-10}
[[ $stop =~ ^[0-9]+ ]] || stop=10 # the app tells what is wrong with it
FORM=${LOG_FORMAT:-text} FORM=${FORM,,}
# Seconds after which whatever still runs is killed: replies have STOP_SECONDS, and writes where the database is away.
LAST_RESORT=$((2 * ${stop%.*} + 5))

say() { # $1: what; $2: level. In the form of app/log.py
    local words=$1
    if [ "$FORM" != json ]; then
        printf '%(%F %T)T %s START %s\n' -1 "${2:-INFO}" "$words" >&2
        return
    fi
    words=${words//\\/\\\\} words=${words//\"/\\\"} words=${words//[[:cntrl:]]/ }
    TZ=UTC0 printf '{"timestamp": "%(%FT%T)T.000+00:00", "level": "%s", "category": "START", "request_id": "-", "message": "%s"}\n' \
        -1 "${2:-INFO}" "$words" >&2
}
die() { echo "chainlit-ollama: $1" >&2; exit 1; }

python=$(command -v .venv/bin/python || command -v python3) || die "python3 is not installed"

# --- The only writable place -----------------------------------------------------------------------------------------

data_dir() {
    export DATA_DIR=${DATA_DIR:-data}
    local place other=$DATA_DIR
    if mkdir -p "$DATA_DIR" 2>/dev/null && [ -w "$DATA_DIR" ]; then
        other=
        for place in "$DATA_DIR"/{chat.db,secret.key,ollama}; do
            [ ! -e "$place" ] || [ -w "$place" ] || other=$place
        done
        [ -n "$other" ] || return 0
    fi
    if [ -e "$other" ] && { [ "$other" != "$DATA_DIR" ] || [ "$(stat -c %d "$DATA_DIR")" != "$(stat -c %d "$DATA_DIR/..")" ]; }; then
        die "cannot write in $other: it belongs to user $(stat -c %u "$other"), this runs as user $(id -u).\
 Give it over: chown -R $(id -u) FOLDER (the one at $DATA_DIR), or start with --user $(stat -c %u:%g "$other")"
    fi
    DATA_DIR=$(mktemp -d) || die "neither $DATA_DIR nor /tmp can be written to. Mount a volume at $DATA_DIR"
    say "no volume and a read-only system: conversations live in $DATA_DIR and end with this container" WARNING
}

home() { # Ollama and others keep a key and caches there
    if [ ! -w "${HOME:-/}" ]; then
        export HOME=${TMPDIR:-/tmp}/home
        mkdir -p "$HOME" 2>/dev/null || { HOME=$DATA_DIR/home && mkdir -p "$HOME"; }
    fi
    if [ -d /opt/huggingface/hub ]; then # a model for transformers came with the image
        export HF_HOME=${HF_HOME:-/opt/huggingface}
    elif [ -d /opt/huggingface ]; then
        export HF_HOME=${HF_HOME:-$DATA_DIR/huggingface}
    fi
}

# --- Ollama ----------------------------------------------------------------------------------------------------------

runs_its_own_ollama() {
    [ -z "${CHECKPOINT:-}" ] || { say "CHECKPOINT answers, no Ollama is started" && return 1; }
    local host=${OLLAMA_HOST:-}
    local here='^(https?://)?(localhost(\.localdomain)?|127\.[0-9.]+|0\.0\.0\.0|\[::1?\])?(:[0-9]+)?/?$'
    [[ ${host,,} =~ $here ]] || { say "Ollama is at $host, none is started here" && return 1; }
    command -v ollama >/dev/null || { say "there is no ollama here, none is started" && return 1; }
    local port=${OLLAMA_PORT:-11434}
    if [[ ${OLLAMA_HOST:-} =~ :([0-9]+)/?$ ]]; then port=${BASH_REMATCH[1]}; fi
    export OLLAMA_HOST=127.0.0.1:$port
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null ||
        { say "an Ollama answers at $OLLAMA_HOST already, it is used" && return 1; }
}

ollama_environment() {
    if [ -d "$BAKED" ]; then # pulled models are kept in the volume, beside those of the image
        export OLLAMA_MODELS=${OLLAMA_MODELS:-$DATA_DIR/ollama} MODELS=${MODELS:-${IMAGE_MODELS:-}}
        docker/join-models "$BAKED" "$OLLAMA_MODELS" 2>/dev/null ||
            { say "$OLLAMA_MODELS cannot be written to: only the image's own models are here" WARNING && export OLLAMA_MODELS=$BAKED; }
    fi
    local slots=${SLOTS:-0} plan
    [ "$slots" != 0 ] || slots=${OLLAMA_NUM_PARALLEL:-1}
    plan=$("$python" -m app.sizing --store "${OLLAMA_MODELS:-$HOME/.ollama/models}" \
        --slots "$slots" --num-ctx "${NUM_CTX:-0}" ${LLAMA_ARG_CACHE_RAM:+"--cache-ram=$LLAMA_ARG_CACHE_RAM"}) ||
        die "NUM_CTX, SLOTS and LLAMA_ARG_CACHE_RAM take whole numbers, see the line above"
    eval "$plan"
    export OLLAMA_NUM_PARALLEL=${OLLAMA_NUM_PARALLEL:-$slots} OLLAMA_WAIT
    export LLAMA_ARG_CACHE_REUSE=${LLAMA_ARG_CACHE_REUSE:-32} LLAMA_ARG_SWA_FULL=${LLAMA_ARG_SWA_FULL:-1}
    export OLLAMA_MAX_LOADED_MODELS=${OLLAMA_MAX_LOADED_MODELS:-1} OLLAMA_KEEP_ALIVE=${OLLAMA_KEEP_ALIVE:--1}
    export OLLAMA_NO_CLOUD=${OLLAMA_NO_CLOUD:-1} OLLAMA_NOPRUNE=${OLLAMA_NOPRUNE:-1}
    say "$MACHINE: num_ctx $NUM_CTX, $NUM_THREAD threads, models up to $MODEL_MEMORY MiB, prompt cache $LLAMA_ARG_CACHE_RAM MiB"
    if [ -n "${OLLAMA_LOG:-}" ] && ! : 2>/dev/null >>"$OLLAMA_LOG"; then
        say "OLLAMA_LOG=$OLLAMA_LOG cannot be written to, only warnings and errors are shown" WARNING
        OLLAMA_LOG=
    fi
}

ollama_log() { # warnings and errors; neither Ollama nor its model process logs what people write
    local line
    local some=(
        grep --line-buffered -E
        'level=(WARN|ERROR)|[Ee]rror|[Ff]ail|ASSERT|terminate|^(panic|fatal|goroutine|SIG)|\.go:[0-9]+ \+0x'
    )
    [ "$FORM" = json ] || exec "${some[@]}"
    "${some[@]}" | while IFS= read -r line; do say "Ollama: $line" WARNING; done
}

start_ollama() {
    # In a group of its own: its model process goes with it.
    if [ -n "${OLLAMA_LOG:-}" ]; then
        setsid ollama serve >/dev/null 2>>"$OLLAMA_LOG" &
    else
        setsid ollama serve >/dev/null 2> >(trap '' TERM INT && ollama_log >&2) &
    fi
    ollama=$!
    started=$SECONDS
    say "Ollama at $OLLAMA_HOST"
}

end_ollama() { # $1: signal
    if [ -n "$ollama" ]; then kill "-$1" -- "-$ollama" 2>/dev/null || true; fi
}

ollama_died() { # $1: exit code
    end_ollama KILL # what it has left behind
    ollama=
    ((SECONDS - started < QUICK)) || deaths=0
    deaths=$((deaths + 1))
    if ((deaths >= QUICK_DEATHS)); then
        say "Ollama has died $deaths times in a row, the last time with code $1: giving up" ERROR
        kill "$app" 2>/dev/null && wait "$app" || true
        exit 1
    fi
    local pause=$((2 ** deaths))
    say "Ollama has died with code $1, it is started again in $pause s" ERROR
    sleep "$pause" &
    timer=$!
}

# --- Both ------------------------------------------------------------------------------------------------------------

end_on() { # $1: signal. Running replies have STOP_SECONDS to finish; see app/runner.py
    ending=$1
    [ -n "$app" ] || exit 0
    [ -n "$guard" ] || { (sleep $LAST_RESORT && kill -KILL "$app") 2>/dev/null & guard=$!; }
    kill "-$1" "$app" 2>/dev/null || true
}

end_all() { # however this ends
    for process in $timer $guard $app; do kill "$process" 2>/dev/null || true; done
    end_ollama TERM
    for _ in {1..10}; do
        [ -n "$ollama" ] && kill -0 "$ollama" 2>/dev/null || return 0
        sleep 0.1
    done
    end_ollama KILL
}

app='' ollama='' timer='' guard='' ending='' deaths=0 started=0
trap 'end_on TERM' TERM HUP
trap 'end_on INT' INT
trap end_all EXIT

data_dir
home
export OLLAMA_HOST=${OLLAMA_HOST:-${OLLAMA_URL:-${OLLAMA_BASE_URL:-${OLLAMA_API_URL:-${EXTERNAL_OLLAMA:-}}}}}
if runs_its_own_ollama; then
    ollama_environment
    start_ollama
fi
[ -n "$OLLAMA_HOST" ] || unset OLLAMA_HOST
"$python" -m app &
app=$!

while true; do
    code=0
    # shellcheck disable=SC2086 # absent processes are no words
    wait -n -p ended $app $ollama $timer || code=$?
    case ${ended:-} in
        "$app")
            [ -z "$ending" ] || exit 0
            say "the web app has ended with code $code" ERROR
            exit $((code ? code : 1))
            ;;
        "${timer:-none}") timer='' && start_ollama ;;
        "${ollama:-none}") if [ -n "$ending" ]; then ollama=''; else ollama_died "$code"; fi ;;
        *) ((code != 127)) || exit 1 ;; # else a signal came; what it asks for is under way
    esac
done
