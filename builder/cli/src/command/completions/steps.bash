_kiln_or_steps() {
    local line=${COMP_LINE:0:$COMP_POINT} word before file=() i
    word=${line##*[[:space:]]}
    before=${line%"$word"}
    before=${before%"${before##*[![:space:]]}"}
    case ${before##*[[:space:]]} in
        --from | --until | --no-cache-filter | --step) ;;
        *) _kiln "$@"; return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -f | --file) file=(-f "${COMP_WORDS[i + 1]}") ;;
        esac
    done
    COMPREPLY=($(compgen -W "$(kiln steps --selectors "${file[@]}" 2>/dev/null)" -- "$word"))
    # Readline cuts words at colons: what is before the last one is on the line already.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -F _kiln_or_steps -o nosort -o bashdefault -o default kiln
