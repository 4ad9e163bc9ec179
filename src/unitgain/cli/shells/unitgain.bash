# What Tab offers for unitgain in bash. The program answers a line for each word.
_unitgain() {
    local IFS=$'\n' answer
    answer=$(_UNITGAIN_COMPLETE=bash "$1" "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    COMPREPLY=()
    if [[ $answer == :files ]]; then
        compopt -o default 2>/dev/null
    elif [[ $answer ]]; then
        COMPREPLY=($answer)
        # a word that goes on (gain=, model.py:, folder/) gets no space after it
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:/,] ]] && compopt -o nospace 2>/dev/null
    fi
    return 0
}
complete -F _unitgain unitgain
