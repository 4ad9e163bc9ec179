# What Tab offers for unitgain in fish. The program answers a line for each word: the word, a tab, a remark.
function __unitgain_offers
    set -l before (commandline -opc)
    set -l typed (commandline -ct | string unescape)
    set -l lines (_UNITGAIN_COMPLETE=fish $before[1] $before[2..-1] "$typed" 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path "$typed"
    else
        printf '%s\n' $lines
    end
end
complete --command unitgain --no-files --arguments '(__unitgain_offers)'
